"""Every 2-D slice of every volume in a list, read from volumes that were prepared once."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Compose
from torch.utils.data import Dataset, Sampler

from pipelines.console import in_one_line
from pipelines.datasets.draws import transformed
from pipelines.errors import UserError
from pipelines.progress import track
from transforms.neighbours import slice_with_neighbours

logger = logging.getLogger(__name__)


class VolumeCache(Sequence):
    """Volumes after the deterministic transforms, in compact types, in memory up to a limit and beyond it on disk.

    Args:
        data: one dictionary a case, e.g. ``{"case": "la_001", "image": path, "label": path}``.
        transform: the deterministic transforms; give ``image`` (C, X, Y, Z) in [0, 1] and ``label`` (1, X, Y, Z).
        memory_limit_gb: gigabytes of voxels to hold in memory; volumes beyond it are kept in temporary files
            (see ``TMPDIR``) that the system pages in and may drop again, so a data set of any size can be trained on.

    Images are held as float16 and labels as uint8.

    Raises:
        UserError: when a case cannot be prepared, its image is not finite, its label not 0 and 1, empty or of another
            shape, or the disk full.
    """

    def __init__(self, data: Sequence[dict], transform: Callable, memory_limit_gb: float = 8.0) -> None:
        self._limit, self._held = memory_limit_gb * 1e9, 0.0
        self._items = [self._prepare(item, transform) for item in track(data, "Preparing volumes")]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._items[index]

    def _prepare(self, item: dict, transform: Callable) -> dict[str, Any]:
        try:
            sample = transform(item)
        except (
            Exception
        ) as error:  # a transform may raise anything, and MONAI's wrapper does not name the case
            raise UserError(
                f"Case '{item['case']}' cannot be prepared: {in_one_line(error)}\n"
                "Check the data set with `python -m pipelines check`."
            ) from error
        _require_usable(item["case"], sample["image"], sample["label"])
        return {
            "case": item["case"],
            "image": self._hold(sample["image"], torch.float16),
            "label": self._hold(sample["label"], torch.uint8),
        }

    def _hold(self, array: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return ``array`` as a compact ``dtype`` block without metadata, in memory or on disk."""
        block = torch.empty(array.shape, dtype=dtype)
        block.copy_(array.as_tensor() if isinstance(array, MetaTensor) else array)
        if self._held <= self._limit < self._held + block.nbytes:
            logger.info("The volumes pass %.1f GB: the rest is kept on disk.", self._limit / 1e9)
        self._held += block.nbytes
        return _on_disk(block) if self._held > self._limit else block


def _require_usable(case: str, image: torch.Tensor, label: torch.Tensor) -> None:
    """Refuse what a network would learn nonsense from, where every voxel is at hand anyway."""
    if not bool(image.isfinite().all()):
        raise UserError(
            f"Case '{case}' cannot be trained on: its image holds voxels that are no numbers.\n"
            "Check the data set with `python -m pipelines check`."
        )
    if image.shape[1:] != label.shape[1:]:
        raise UserError(
            f"Case '{case}' cannot be trained on: on the network's grid its image has {tuple(image.shape[1:])} voxels "
            f"and its label {tuple(label.shape[1:])}.\nGive both the same affine."
        )
    if not bool(label.any()):
        raise UserError(
            f"Case '{case}' cannot be trained on: its label holds no voxel on the network's grid.\n"
            "Outline it, or take it out of the data set; check that with `python -m pipelines check`."
        )
    if not bool(((label == 0) | (label == 1)).all()):
        raise UserError(
            f"Case '{case}' cannot be trained on: its label must hold 0 and 1 alone, got "
            f"{label.unique().tolist()[:5]}.\n"
            "Map the other labels to these, and check the data set with `python -m pipelines check`."
        )


def _on_disk(block: torch.Tensor) -> torch.Tensor:
    """Return a copy that is paged in from a file without a name, which ends with the process, however it ends."""
    array = block.numpy()
    try:
        with tempfile.TemporaryFile(prefix="cardiothorax-") as file:
            array.tofile(file)
            file.flush()
            # changes stay in memory, so no slip of a transform reaches the file
            return torch.from_numpy(np.memmap(file, array.dtype, mode="c", shape=array.shape))
    except OSError as error:
        raise UserError(
            f"Cannot keep the volumes in {tempfile.gettempdir()}: {error.strerror}. "
            "Raise memory_limit_gb, or set TMPDIR to a folder with more room."
        ) from error


def draw_window(label: np.ndarray, size: Sequence[int], generator: np.random.Generator) -> list[slice]:
    """Return a window at random: in two of three cases one that holds as much of the label as there is room for.

    Args:
        label: (H, W) bool.
        size: of the window; no side is longer than the label's array.
        generator: of random numbers.
    """
    aimed = label.any() and generator.random() < 2 / 3
    window = []
    for axis, side in enumerate(size):
        last = label.shape[axis] - side
        ends = 0, last
        if aimed:
            marked = np.flatnonzero(label.any(1 - axis))
            ends = sorted(np.clip([marked[-1] + 1 - side, marked[0]], 0, last))
        start = int(generator.integers(ends[0], ends[1] + 1))
        window.append(slice(start, start + side))
    return window


class SliceDataset(Dataset):
    """All slices of a list of volumes, along one or several planes.

    Args:
        volumes: dictionaries with ``image`` (1, X, Y, Z) and ``label`` (1, X, Y, Z).
        transform: random transforms of ``{"image": (C, H, W) float32, "label": (1, H, W) float32}``; without any,
            slices keep the volumes' compact types until they are a batch.
        planes: the axes that slices are counted along, e.g. ``[2]`` for axial ones alone.
        slice_offsets: the neighbouring slices that become the image's channels.
        seed: see :func:`pipelines.datasets.draws.transformed`; the training sets ``epoch``.
        patch_size: length along X, Y and Z that every slice is cut or padded to before the transforms, so that
            slices of one plane have one size; None leaves them as they are. What is longer is cut to a window that
            is drawn anew each epoch, see :func:`draw_window`.

    ``has_label`` is (N,) bool: whether a slice holds any labelled pixel. ``plane`` is (N,) int: the axis it is
    counted along.
    """

    def __init__(
        self,
        volumes: Sequence[dict],
        transform: Compose | None = None,
        planes: Sequence[int] = (2,),
        slice_offsets: Sequence[int] = (0,),
        seed: int = 0,
        patch_size: Sequence[int] | None = None,
    ) -> None:
        if not len(volumes):
            raise UserError(
                "No volumes to train on: the list of cases is empty. Check train_cases and val_cases."
            )
        self.volumes, self.transform, self.seed, self.epoch = volumes, transform, seed, 0
        self.slice_offsets = tuple(slice_offsets)
        self._sizes = {p: np.delete(patch_size, p).tolist() for p in planes if patch_size}
        self.index, has_label = [], []
        for volume, content in enumerate(volumes):
            for plane in planes:
                others = [axis for axis in range(3) if axis != plane]
                labelled = content["label"][0].numpy().any(axis=tuple(others))
                self.index += [(volume, plane, k) for k in range(len(labelled))]
                has_label.append(labelled)
        self.has_label = np.concatenate(has_label)
        self.plane = np.array([plane for _, plane, _ in self.index])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        volume, plane, k = self.index[index]
        content = self.volumes[volume]
        sample = {
            "image": slice_with_neighbours(content["image"], k, self.slice_offsets, plane),
            "label": content["label"].select(plane + 1, k),
        }
        if plane in self._sizes:
            sample = self._window(sample, self._sizes[plane], index)
        if self.transform is not None and self.transform.transforms:
            sample = {key: value.float() for key, value in sample.items()}
        return transformed(self.transform, sample, self.seed, self.epoch, index)

    def _window(
        self, sample: dict[str, torch.Tensor], size: Sequence[int], index: int
    ) -> dict[str, torch.Tensor]:
        """Return image and label (C, H, W) padded around the centre, and cut to a window, of ``size`` H, W."""
        shape = sample["label"].shape[1:]
        missing = [max(0, side - length) for side, length in zip(size, shape, strict=True)]
        if any(missing):
            (top, left), (bottom, right) = [[n // 2 for n in missing], [n - n // 2 for n in missing]]
            sample = {key: F.pad(value, (left, right, top, bottom)) for key, value in sample.items()}
        if all(length <= side for side, length in zip(size, shape, strict=True)):
            return sample
        generator = np.random.default_rng([self.seed, self.epoch, index])
        rows, columns = draw_window(sample["label"][0].numpy() > 0, size, generator)
        return {key: value[:, rows, columns] for key, value in sample.items()}


class SliceBatches(Sampler[list[int]]):
    """Batches of slices of one plane each: a share of those with a label and of those without, drawn anew each epoch.

    A batch is drawn from (seed, epoch) alone. Slices of one plane have one size, and padding those of all planes to
    a common size would both cost time and show the network borders that it does not meet in whole volumes.

    Args:
        dataset: the slices.
        batch_size: slices to a batch; a plane's last batch is left out where it would be smaller, unless it is the
            only one.
        labelled_share: share of the slices with a label to visit in an epoch, in [0, 1]. Neighbours look alike, so
            half of them an epoch teaches nearly as much as all.
        empty_share: share of the slices without a label to visit in an epoch, in [0, 1].
        seed: of the run; the training sets ``epoch``.

    Raises:
        UserError: when a share is not in [0, 1] or nothing would be left to visit.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        batch_size: int,
        labelled_share: float = 1.0,
        empty_share: float = 1.0,
        seed: int = 0,
    ) -> None:
        for name, share in (("labelled_share", labelled_share), ("empty_share", empty_share)):
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise UserError(f"{name} must be a number between 0 and 1, got {share!r}.")
        self.seed, self.epoch, self.batch_size = seed, 0, batch_size
        shares = ((dataset.has_label, labelled_share), (~dataset.has_label, empty_share))
        self._planes = []
        for plane in np.unique(dataset.plane):
            groups = [np.flatnonzero((dataset.plane == plane) & kind) for kind, _ in shares]
            counts = [round(len(group) * share) for group, (_, share) in zip(groups, shares, strict=True)]
            self._planes.append(list(zip(groups, counts, strict=True)))
        if not len(self):
            raise UserError(
                "No slice to train on: the labels hold no voxel, or labelled_share and empty_share are too small."
            )

    def __len__(self) -> int:
        return sum(self._batches(sum(drawn for _, drawn in groups)) for groups in self._planes)

    def _batches(self, slices: int) -> int:
        return max(slices // self.batch_size, min(slices, 1))

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        batches: list[list[int]] = []
        for groups in self._planes:
            drawn = np.concatenate([generator.choice(group, n, replace=False) for group, n in groups])
            order, size = generator.permutation(drawn).tolist(), self.batch_size
            batches += [order[size * k : size * (k + 1)] for k in range(self._batches(len(order)))]
        return (batches[k] for k in generator.permutation(len(batches)))
