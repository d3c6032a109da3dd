"""How fast a bundle predicts, from files to all outputs, against its network alone."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from uuid import uuid4

import torch
from torch import nn

from pipelines.benchmarks.bundle import BundleObjects, image_folder, phantom, scratch
from pipelines.benchmarks.meter import now
from pipelines.benchmarks.predict_parts import PredictionParts
from pipelines.benchmarks.report import Benchmark, Figure, median_ratio
from pipelines.engines import PYTORCH
from pipelines.ensemble import members
from pipelines.errors import UserError
from pipelines.registry import Bundle

VOLUMES, XRAYS = 1, 200


def benchmark_predict(
    bundle: Bundle,
    inputs: Path | None = None,
    rounds: int = 3,
    cases: int | None = None,
    engine: str = PYTORCH,
    ckpt_path: Path | None = None,
    **overrides: Any,
) -> Benchmark:
    """Compare a bundle's prediction with its network, in turns, so that a busy machine hits both alike.

    - ``prediction``: ``inference.yaml`` as it is, from the files to result, mask or overlay, and summary on the disk.
    - ``network``: the same network on random batches of the shapes and memory formats that the prediction gave it.

    What the prediction is made of is told as well, see :class:`~pipelines.benchmarks.predict_parts.PredictionParts`.

    Args:
        bundle: what predicts.
        inputs: a file, a folder or a data set; None makes phantoms.
        rounds: how often to predict everything; once more warms up.
        cases: phantoms to make, or files of ``inputs`` to take at most; None is 1 volume or 200 X-rays.
        engine: see :mod:`pipelines.engines`; others than PyTorch are compared with PyTorch in float32 as well.
        ckpt_path: weights or a run folder; None is random weights. The network's time does not depend on them, but
            what they mark in a volume is noise, whose outline takes longer to draw than an atrium's.
        **overrides: of ``inference.yaml``.
    """
    cases = cases or (XRAYS if bundle.scan else VOLUMES)
    with scratch() as folder:
        files = _files(bundle, folder, inputs, cases)
        given = _settings(bundle, folder, files, ckpt_path, overrides)
        plain = BundleObjects(bundle.config("inference"), **given)
        pytorch = members(plain.component("network"))
        with _watched(pytorch) as calls:
            _predict(plain)
        objects = (
            plain if engine == PYTORCH else BundleObjects(bundle.config("inference"), **given, engine=engine)
        )
        device = objects.component("device")
        network = _networks(members(objects.component("network")), calls, device)
        parts = PredictionParts(objects.component("prediction"), lambda: _predict(objects), network)
        ways = {
            "pytorch": _networks(pytorch, calls, device),
            "network": parts.network,
            "prediction": parts.predict,
        }
        seconds = _in_turns(ways, rounds, twice="network")
    each = {name: [1000 * s / len(files) for s in values] for name, values in seconds.items()}
    settings = {"rounds": rounds, "cases": len(files), "engine": engine, "device": str(device)}
    figures = _figures(each, engine) + parts.figures(len(files))
    return Benchmark("predict", bundle.name, settings, figures)


def predict_once(bundle: Bundle, inputs: Path, cases: int, **overrides: Any) -> None:
    """Predict ``cases`` files of ``inputs`` with random weights, and nothing else: see the arguments of
    :func:`benchmark_predict`."""
    with scratch() as folder:
        given = _settings(bundle, folder, _files(bundle, folder, inputs, cases), None, overrides)
        _predict(BundleObjects(bundle.config("inference"), **given))


def _in_turns(ways: dict[str, Callable[[], None]], rounds: int, twice: str) -> dict[str, list[float]]:
    """Return the seconds of each way's turns, the one called ``twice`` measured before and after each round."""
    for work in ways.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    seconds[twice].append(_seconds(ways[twice]))
    for _ in range(rounds):
        for name, work in ways.items():
            if name != twice:
                seconds[name].append(_seconds(work))
        seconds[twice].append(_seconds(ways[twice]))
    return seconds


def _figures(each: dict[str, list[float]], engine: str) -> list[Figure]:
    network, prediction = median(each["network"]), median(each["prediction"])
    ratio = median_ratio(each["prediction"], each["network"])
    figures = [
        Figure("network alone", network, "ms a case"),
        Figure("prediction", prediction, "ms a case", ratio, "network alone", at_most=1.3),
    ]
    if engine != PYTORCH:
        faster = median_ratio(each["pytorch"], each["network"])
        figures.append(
            Figure("network in PyTorch", median(each["pytorch"]), "ms a case", faster, engine, at_least=1.5)
        )
    return figures


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class _Call(NamedTuple):
    """What a network of a prediction (of an ensemble one of several) was asked."""

    network: int
    shape: tuple[int, ...]
    memory_format: torch.memory_format


@contextmanager
def _watched(networks: Sequence[nn.Module]) -> Iterator[list[_Call]]:
    """Yield a list of the calls of ``networks``, which grows inside."""
    calls: list[_Call] = []

    def note(number: int, batch: torch.Tensor) -> None:
        last = batch.is_contiguous(memory_format=torch.channels_last) and not batch.is_contiguous()
        layout = torch.channels_last if last else torch.contiguous_format
        calls.append(_Call(number, tuple(batch.shape), layout))

    hooks = [
        network.register_forward_pre_hook(lambda _, inputs, number=number: note(number, inputs[0]))
        for number, network in enumerate(networks)
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _networks(networks: Sequence[nn.Module], calls: Sequence[_Call], device: str) -> Callable[[], None]:
    """Return what makes the same ``calls`` of ``networks`` again, with random batches on ``device``."""
    kinds = {(call.shape, call.memory_format) for call in calls}
    batches = {
        (shape, layout): torch.rand(shape, device=device).contiguous(memory_format=layout)
        for shape, layout in kinds
    }

    @torch.inference_mode()
    def run() -> None:
        for call in calls:
            networks[call.network](batches[call.shape, call.memory_format])
        now(device)

    return run


def _settings(
    bundle: Bundle, folder: Path, files: Sequence[Path], ckpt_path: Path | None, overrides: dict[str, Any]
) -> dict[str, Any]:
    """Return what ``inference.yaml`` is given."""
    given = {"dataset_dir": [str(file) for file in files], "output_dir": str(folder / "out")}
    return {**given, "ckpt_path": str(ckpt_path or _weights(bundle, folder, overrides)), **overrides}


def _predict(objects: BundleObjects) -> None:
    prediction = objects.component("prediction")
    # a new folder each time: to replace results takes longer than to write them
    prediction.output_dir = Path(objects.component("output_dir")) / uuid4().hex
    try:
        with redirect_stderr(io.StringIO()):  # a line a case
            prediction.run()
    except SystemExit as error:  # some inputs failed
        with open(prediction.output_dir / "summary.csv", newline="", encoding="utf-8") as file:
            failed = [row for row in csv.DictReader(file) if row["status"] != "done"]
        raise UserError(
            f"expected files that can be predicted, {len(failed)} cannot, the first of them {failed[0]['case']}: "
            f"{failed[0]['reason']}\nLeave them out of the folder that is measured."
        ) from error


def _weights(bundle: Bundle, folder: Path, overrides: dict[str, Any]) -> Path:
    """Write untrained weights of a bundle's network and return their file."""
    from monai.bundle import ConfigParser

    path = folder / "model.pt"
    config = {**ConfigParser.load_config_file(bundle.config("inference")), **overrides}
    torch.save(ConfigParser(config).get_parsed_content("network_def").state_dict(), path)
    return path


def _files(bundle: Bundle, folder: Path, inputs: Path | None, cases: int) -> list[Path]:
    if bundle.scan:
        from pipelines.readers.xray import find_images as find
    else:
        from pipelines.readers.inputs import find_inputs as find
    inputs = inputs or phantom(bundle, folder, max(cases, 2))  # no phantom has fewer
    return [item.path for item in find([image_folder(inputs)]) if not item.problem][:cases]
