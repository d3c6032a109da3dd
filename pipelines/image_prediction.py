"""A trained bundle at work on X-rays: files are read ahead, the network sees batches, each case gets its folder."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from monai.transforms import Compose
from torch import nn

from pipelines.ensemble import members
from pipelines.errors import UserError
from pipelines.predict import Prediction, result_record
from pipelines.readers.xray import ImageInput, Xray, find_images, read_xray_shown

if TYPE_CHECKING:
    from PIL import Image

Element = TypeVar("Element")
Finished = tuple[ImageInput, "Future[Any]"]


class Read(NamedTuple):
    """An X-ray, its picture for people (rows, columns) uint8, and what the network sees of it, (1, size, size)."""

    xray: Xray
    picture: np.ndarray
    image: torch.Tensor


class ImageTask(Protocol):
    """What a bundle does with X-rays. ``measure`` and ``draw`` are called from several threads at once.

    ``outputs`` holds what ``infer`` gave for one image, once a model: one, or as many as an ensemble has.
    """

    def infer(self, network: nn.Module, images: torch.Tensor) -> Sequence[Any]:
        """Return one output an image of ``images`` (B, 1, size, size), preprocessed, on the network's device."""

    def measure(self, outputs: Sequence[Any], xray: Xray) -> tuple[dict[str, Any], list[str]]:
        """Return the ``result`` of ``result.json``, and warnings beside those of the file's header."""

    def draw(
        self, picture: np.ndarray, outputs: Sequence[Any], result: Mapping[str, Any], case: str
    ) -> Image.Image:
        """Return the overlay on ``picture`` (rows, columns) uint8, whose longer side has ``shown`` pixels."""


def image_items(dataset_dir: str | Path) -> list[dict[str, str]]:
    """Return the images of a folder as a data list, for tools that run the bundle's own evaluator."""
    items = find_images([Path(dataset_dir)])
    return [{"case": item.case, "image": str(item.path)} for item in items if not item.problem]


class ImagePrediction(Prediction):
    """Predict X-rays with a bundle.

    While the network computes a batch, threads read the next and draw the one before: a folder of thousands takes
    little longer than the network alone, and no more memory than three batches.

    Args:
        inputs: a path, or several: DICOM, PNG or JPEG files, or folders of these.
        output_dir: a folder a case is written here.
        network: with its weights, on ``device``.
        preprocessing: the deterministic transforms, on ``image`` (1, size, size) uint8.
        device: where the network is.
        task: the bundle's own part.
        source: see :func:`pipelines.prediction.provenance`.
        size: rows and columns of what the network sees.
        batch_size: images at once.
        shown: the longer side of the picture that the overlay is drawn on, pixels.
        threads: how many read and draw.
    """

    def __init__(
        self,
        inputs: str | Path | Sequence[str | Path],
        output_dir: str | Path,
        network: nn.Module,
        preprocessing: Compose,
        device: str | torch.device,
        task: ImageTask,
        source: Mapping[str, str],
        size: int = 224,
        batch_size: int = 16,
        shown: int = 448,
        threads: int = 2,
    ) -> None:
        super().__init__(inputs, output_dir, network, preprocessing, device, source)
        self.task, self.size, self.shown = task, size, shown
        self.batch_size, self.threads = batch_size, threads

    def run(self) -> None:
        """Predict every input, see :meth:`~pipelines.predict.Prediction.predict_each`."""
        items = find_images(self.inputs)
        # one thread of OpenMP's each: more would wait for one another, and keep the network from the processor
        pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
        try:
            self.predict_each(items, self._one_by_one(self.predicted(items, pool)))
        finally:
            pool.shutdown(cancel_futures=True)

    def predicted(self, items: Sequence[ImageInput], pool: ThreadPoolExecutor) -> Iterator[Finished]:
        """Yield each input in order with its future ``result.json`` and overlay (PNG), or with its error."""
        batches = (items[i : i + self.batch_size] for i in range(0, len(items), self.batch_size))
        reading = _one_late([(item, pool.submit(self.read, item)) for item in batch] for batch in batches)
        drawing = _one_late(self._inferred(batch, pool) for batch in reading)
        for batch in drawing:
            yield from batch

    def _one_by_one(self, finished: Iterator[Finished]) -> Callable[[ImageInput, Path], dict[str, Any]]:
        def predict_one(item: ImageInput, folder: Path) -> dict[str, Any]:
            future = next(future for ready, future in finished if ready is item)
            record, overlay = future.result()
            (folder / "overlay.png").write_bytes(overlay)
            return record

        return predict_one

    def read(self, item: ImageInput) -> Read:
        """Return an input as the network and a person see it.

        Raises:
            UserError: it cannot be read.
        """
        if item.problem:
            raise UserError(item.problem)
        xray, picture = read_xray_shown(item.path, self.size, self.shown)
        image = self.preprocessing({"image": torch.from_numpy(xray.pixels)[None]})["image"]
        return Read(xray, picture, image.as_subclass(torch.Tensor))

    def _inferred(self, batch: Sequence[Finished], pool: ThreadPoolExecutor) -> list[Finished]:
        """Run the network on what of a batch could be read, and let threads do the rest of the work."""
        read = [future.result() for _, future in batch if future.exception() is None]
        try:
            answers = deque(self.infer([one.image for one in read]) if read else [])
        except Exception as error:  # of this batch alone: each of its cases tells it
            return [(item, _failed(future.exception() or error)) for item, future in batch]
        return [
            (
                item,
                future if future.exception() else pool.submit(self.finish, item, future, answers.popleft()),
            )
            for item, future in batch
        ]

    @torch.inference_mode()
    def infer(self, images: Sequence[torch.Tensor]) -> Sequence[Any]:
        """Return for each image (1, size, size), preprocessed, what the task infers with each model."""
        batch = torch.stack(images).to(self.device).contiguous(memory_format=torch.channels_last)
        return list(zip(*(self.task.infer(model, batch) for model in members(self.network)), strict=True))

    def finish(
        self, item: ImageInput, read: Future[Any], outputs: Sequence[Any]
    ) -> tuple[dict[str, Any], bytes]:
        """Return ``result.json`` and the overlay (PNG) of an input, from what was read and inferred of it."""
        xray, picture, _ = read.result()
        result, warnings = self.task.measure(outputs, xray)
        overlay = io.BytesIO()
        self.task.draw(picture, outputs, result, item.case).save(overlay, format="PNG", compress_level=1)
        record = result_record(self.source, item, result, [*xray.header.warnings, *warnings])
        return record, overlay.getvalue()


def _one_late(elements: Iterable[Element]) -> Iterator[Element]:
    """Yield each element once the next has been made, so that the work it began goes on meanwhile."""
    waiting: deque[Element] = deque()
    for element in elements:
        waiting.append(element)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def _failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
