"""How much memory a training and a prediction take as the cases grow in number."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.benchmarks.report import Benchmark, Figure
from pipelines.datasets.datalist import FILES, Case
from pipelines.errors import UserError
from pipelines.runs import DATALIST

if TYPE_CHECKING:
    from pipelines.registry import Bundle

# cases in training, and in prediction: there the few are all sizes of phantoms once
VOLUMES, XRAYS = ([5, 10, 20, 40], [5, 20]), ([500, 2000, 8000], [50, 400])
QUICK_VOLUMES, QUICK_XRAYS = ([3, 6], [1, 2]), ([20, 60], [4, 16])


def benchmark_memory(bundle: Bundle, quick: bool = False, **overrides: Any) -> Benchmark:
    """Measure the peak of resident memory of one process a size.

    A training reads all of its cases, touches every cached voxel and makes two steps; a prediction is
    ``inference.yaml`` as it is. The cases are copies of a few phantoms: memory does not depend on what they show.

    Args:
        bundle: what trains and predicts.
        quick: a few small cases, to see that it works.
        **overrides: of ``train.yaml`` and ``inference.yaml``, those that each has.
    """
    from pipelines.benchmarks.bundle import phantom, scratch

    if bundle.scan:
        (training, prediction), size = (QUICK_XRAYS, 64) if quick else (XRAYS, 512)
    else:
        (training, prediction), size = (QUICK_VOLUMES, 32) if quick else (VOLUMES, None)
    with scratch() as folder:
        source = phantom(bundle, folder, 5, size)
        trained = [_peak("train", bundle, folder, source, n, overrides) for n in training]
        predicted = [_peak("predict", bundle, folder, source, n, overrides) for n in prediction]
    settings = {"training": training, "prediction": prediction}
    return Benchmark("memory", bundle.name, settings, figures(training, trained, prediction, predicted))


def figures(
    training: Sequence[int],
    trained: Sequence[dict[str, int]],
    prediction: Sequence[int],
    predicted: Sequence[dict[str, int]],
) -> list[Figure]:
    """Return what the processes' ``peak`` and ``cached`` bytes mean, each with its number of cases."""
    import numpy as np

    peaks, cached = (np.array([found[name] for found in trained], float) for name in ("peak", "cached"))
    slope, start = np.polyfit(cached, peaks, 1)
    off = np.abs(peaks - (start + slope * cached)).max() / peaks.max()
    rows = [Figure(f"training on {n}", p / 1e6, "MB") for n, p in zip(training, peaks, strict=True)]
    rows += [
        Figure("training, more for each byte cached", float(slope), "bytes", at_most=1.3),
        Figure("training, largest distance from a line", float(off), "of the peak", at_most=0.05),
    ]
    few, many = predicted[0]["peak"], predicted[-1]["peak"]
    rows += [Figure(f"prediction of {prediction[0]}", few / 1e6, "MB")]
    flat = Figure(
        f"prediction of {prediction[-1]}",
        many / 1e6,
        "MB",
        many / few,
        f"that of {prediction[0]}",
        at_most=1.1,
    )
    return [*rows, flat]


def _peak(
    kind: str, bundle: Bundle, folder: Path, source: Path, cases: int, overrides: dict[str, Any]
) -> dict[str, int]:
    """Return ``peak`` and ``cached``, bytes, of a process that trains on or predicts so many cases."""
    code = "import sys; from pipelines.benchmarks import memory; memory.child(*sys.argv[1:])"
    job = json.dumps({"cases": cases, "folder": str(folder), "source": str(source), "overrides": overrides})
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", code, kind, bundle.name, job],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},  # what it leaves when killed goes away with the folder
    )
    if done.returncode:
        raise UserError(
            f"A process that was to {kind} on {cases} cases ended with code {done.returncode}; see above."
        )
    return json.loads(done.stdout.splitlines()[-1])


def child(kind: str, name: str, job: str) -> None:
    """Do one process's work and print what it took."""
    from pipelines.registry import get_bundle

    given, bundle = json.loads(job), get_bundle(name)
    folder, cases = Path(given["folder"]), given["cases"]
    copies = _copies(bundle, Path(given["source"]), folder / f"{kind}-{cases}", cases)
    work = _train if kind == "train" else _predict
    cached = work(bundle, folder, copies, cases, given["overrides"])
    print(json.dumps({"peak": peak_memory(), "cached": cached}))


def peak_memory() -> int:
    """Return the most bytes that were resident in this process's life.

    On Linux not from ``getrusage``: its ``ru_maxrss`` starts with the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(
            line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:")
        )
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _train(bundle: Bundle, folder: Path, copies: Path, cases: int, overrides: dict[str, Any]) -> int:
    from pipelines.benchmarks.bundle import BundleObjects
    from pipelines.training import keep_memory_of

    given = {
        "dataset_dir": str(copies),
        "output_dir": str(folder / "runs"),
        "cache_dir": str(folder / "cache"),
        # without a look at the data: copies of one case are nothing to train on in earnest
        "initialize": ["$session.begin_training()"],
    }
    objects = BundleObjects(bundle.config("train"), **{**given, **overrides})
    reader = "pipelines.datasets.datalist.read_datalist"
    objects.parser["datalist"] = {"_target_": reader, "path": str(copies / DATALIST)}
    trainer = objects.component("train#trainer")
    if objects.has("prepared"):
        prepared = objects.component("prepared")
        cached = sum(prepared[index].copy().nbytes for index in range(len(prepared)))
    else:
        volumes = [*objects.component("train#volumes"), *objects.component("validate#volumes")]
        cached = sum(volume[key].clone().nbytes for volume in volumes for key in ("image", "label"))
    keep_memory_of(trainer)
    for _, batch in zip(range(2), trainer.data_loader, strict=False):
        trainer._iteration(trainer, batch)
    return cached


def _predict(bundle: Bundle, folder: Path, copies: Path, cases: int, overrides: dict[str, Any]) -> int:
    from pipelines.benchmarks.predict import predict_once

    predict_once(bundle, copies / "image", cases, **overrides)
    return 0


def _copies(bundle: Bundle, source: Path, target: Path, cases: int) -> Path:
    """Fill ``target`` with links to ``cases`` cases, those of ``source`` over and over, and a list of them."""
    from pipelines.datasets.datalist import write_datalist

    if not (target / DATALIST).is_file():
        known = bundle.function("cases")(source)
        copies = [_copy(known[number % len(known)], target, f"copy{number:05d}") for number in range(cases)]
        write_datalist({"train": copies[1:], "val": copies[:1], "test": []}, target, target / DATALIST)
    return target


def _copy(case: Case, target: Path, name: str) -> Case:
    """Return a case under another name, its files linked into ``target/image`` and ``target/label``."""
    links = {}
    for kind in FILES:
        if isinstance(case.get(kind), str):
            path = Path(case[kind])
            suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
            link = target / kind / f"{name}{suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(path)
            links[kind] = str(link)
    return {**case, "case": name, **links}
