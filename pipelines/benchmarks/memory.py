"""How much memory a training and a prediction take as the cases grow in number."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.benchmarks.report import Benchmark, Figure
from pipelines.files import write_json

if TYPE_CHECKING:
    from pipelines.registry import Bundle

IMAGES = "stage_2_train_images"
_TABLES = {
    "pneumonia": ("stage_2_train_labels.csv", "patientId"),
    "cardiac": ("rsna_heart_detection.csv", "name"),
}
# cases in training, and in prediction
SIZES = {"atrium": ([5, 10, 20, 40], [1, 4]), "xrays": ([500, 2000, 8000], [50, 400])}
QUICK = {"atrium": ([3, 6], [1, 2]), "xrays": ([20, 60], [4, 16])}


def benchmark_memory(bundle: Bundle, quick: bool = False, **overrides: Any) -> Benchmark:
    """Measure the peak of resident memory of one process a size.

    A training reads all of its cases, touches every cached voxel and makes two steps; a prediction is
    ``inference.yaml`` as it is. The cases are copies of a few phantoms: memory does not depend on what they show.

    Args:
        bundle: what trains and predicts.
        quick: a few small cases, to see that it works.
        **overrides: of ``train.yaml`` and ``inference.yaml``, those that each has.
    """
    from pipelines.benchmarks.bundle import scratch

    training, prediction = (QUICK if quick else SIZES)["atrium" if bundle.name == "atrium" else "xrays"]
    with scratch() as folder:
        source = _source(bundle, folder, quick)
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
        [sys.executable, "-c", code, kind, bundle.name, job], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def child(kind: str, name: str, job: str) -> None:
    """Do one process's work and print what it took."""
    from pipelines.registry import get_bundle

    given = json.loads(job)
    dataset = _copies(
        get_bundle(name),
        Path(given["source"]),
        Path(given["folder"]) / f"{kind}-{given['cases']}",
        given["cases"],
    )
    work = _train if kind == "train" else _predict
    cached = work(get_bundle(name), Path(given["folder"]), dataset, given["cases"], given["overrides"])
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "cached": cached}))


def _train(bundle: Bundle, folder: Path, dataset: Path, cases: int, overrides: dict[str, Any]) -> int:
    from pipelines.benchmarks.bundle import BundleObjects

    given = {
        "dataset_dir": str(dataset),
        "output_dir": str(folder / "runs"),
        "cache_dir": str(folder / "cache"),
    }
    given |= {"train_cases": cases - 1, "val_cases": 1}
    given["initialize"] = [
        "$session.begin_training()"
    ]  # copies of one case are nothing to train on in earnest
    objects = BundleObjects(bundle.config("train"), **{**given, **overrides})
    trainer = objects.component("train#trainer")
    if objects.has("prepared"):
        prepared = objects.component("prepared")
        cached = sum(prepared[index].copy().nbytes for index in range(len(prepared)))
    else:
        volumes = [*objects.component("train#volumes"), *objects.component("validate#volumes")]
        cached = sum(volume[key].clone().nbytes for volume in volumes for key in ("image", "label"))
    for _, batch in zip(range(2), trainer.data_loader, strict=False):
        trainer._iteration(trainer, batch)
    return cached


def _predict(bundle: Bundle, folder: Path, dataset: Path, cases: int, overrides: dict[str, Any]) -> int:
    from pipelines.benchmarks.predict import benchmark_predict

    images = dataset / ("imagesTr" if bundle.name == "atrium" else "stage_2_train_images")
    benchmark_predict(bundle, images, rounds=0, cases=cases, **overrides)
    return 0


def _source(bundle: Bundle, folder: Path, quick: bool) -> Path:
    from pipelines.benchmarks.bundle import phantom

    if bundle.name == "atrium":
        return phantom(bundle, folder, 5, 32 if quick else None)
    return phantom(bundle, folder, 5, 64 if quick else 512)


def _copies(bundle: Bundle, source: Path, target: Path, cases: int) -> Path:
    """Fill ``target`` with links to ``cases`` cases, those of ``source`` over and over under new names."""
    if target.exists():
        return target
    if bundle.name == "atrium":
        _copy_volumes(source, target, cases)
    else:
        _copy_xrays(source, target, cases, *_TABLES[bundle.name])
    return target


def _copy_volumes(source: Path, target: Path, cases: int) -> None:
    contents = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    known, contents["training"] = contents["training"], []
    for number in range(cases):
        case = {}
        for key, path in known[number % len(known)].items():
            case[key] = f"{Path(path).parent}/la_{number + 1:03d}.nii.gz"
            _link(source / path, target / case[key])
        contents["training"].append(case)
    contents["numTraining"] = cases
    write_json(target / "dataset.json", contents)


def _copy_xrays(source: Path, target: Path, cases: int, table: str, column: str) -> None:
    import pandas as pd

    rows = pd.read_csv(source / table)
    names, copies = rows[column].unique(), []
    for number in range(cases):
        name, new = names[number % len(names)], f"copy{number:05d}"
        _link(source / IMAGES / f"{name}.dcm", target / IMAGES / f"{new}.dcm")
        copies.append(rows[rows[column] == name].assign(**{column: new}))
    pd.concat(copies).to_csv(target / table, index=False)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.hardlink_to(source)
