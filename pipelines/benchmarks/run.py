"""The benchmark that a command line names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.benchmarks.report import Benchmark, Figure, load
from pipelines.engines import PYTORCH, require_engine
from pipelines.ensemble import find_checkpoints
from pipelines.errors import UserError, nearest
from pipelines.interrupts import termination_as_interrupt
from pipelines.registry import Bundle

# of an epoch: each ends with a checkpoint, which tells on short ones and not on those of a real data set
TRAIN_SLICES, TRAIN_XRAYS, LEAST_TRAIN = 1600, 640, 16
# which options each kind takes; the others of the command line would be without effect
KINDS = {
    "train": ("dataset_dir", "rounds", "images", "quick"),
    "predict": ("dataset_dir", "rounds", "images", "quick", "engine", "ckpt_path"),
    "prepare": ("dataset_dir", "rounds", "quick"),
    "startup": ("rounds",),
    "memory": ("quick",),
}


def run_benchmark(
    kind: str,
    bundle: Bundle,
    dataset_dir: Path | None = None,
    rounds: int | None = None,
    images: int | None = None,
    engine: str | None = None,
    ckpt_path: Path | None = None,
    quick: bool = False,
) -> Benchmark:
    """Measure one thing about a bundle.

    Args:
        kind: of :data:`KINDS`.
        bundle: what to measure.
        dataset_dir: the bundle's data set, or for ``predict`` files; None makes phantoms.
        rounds: how often; None is 3.
        images: of a training's epoch, at most and from 16 on, or files that ``predict`` takes; None is 1600 slices
            or 640 X-rays, and 1 volume or 200 X-rays.
        engine: what predicts; None is PyTorch.
        ckpt_path: the weights that predict; None is random ones.
        quick: a few cases, to see that it works; its numbers mean little and are held against no aim.

    Raises:
        UserError: there is no such kind, it takes none of an option that was given, the bundle has nothing of it, or
            what it needs is not there. That is told before anything is measured.
    """
    if kind not in KINDS:
        raise UserError(f"There is no benchmark '{kind}'{nearest(kind, KINDS)}\nKnown: {', '.join(KINDS)}.")
    _check_options(
        kind,
        dataset_dir=dataset_dir,
        rounds=rounds,
        images=images,
        engine=engine,
        ckpt_path=ckpt_path,
        quick=quick or None,
    )
    if quick and images:
        raise UserError("--quick and --images both say how many images there are.\nLeave one of them out.")
    for name in ("train", "inference") if kind != "prepare" else ():
        bundle.config(name)
    with termination_as_interrupt():  # what is written meanwhile goes away as after Ctrl-C
        before = load()
        found = _measure(
            kind,
            bundle,
            dataset_dir,
            rounds or 3,
            images,
            PYTORCH if engine is None else engine,
            ckpt_path,
            quick,
        )
    found.load_before = before
    if quick:  # nothing is judged by a few cases
        found.settings["quick"] = True
        found.figures = [replace(figure, at_least=None, at_most=None) for figure in found.figures]
    return found


def _measure(
    kind: str,
    bundle: Bundle,
    dataset_dir: Path | None,
    rounds: int,
    images: int | None,
    engine: str,
    ckpt_path: Path | None,
    quick: bool,
) -> Benchmark:
    options: dict[str, Any] = {"rounds": rounds}
    if kind == "train":
        from pipelines.benchmarks.train import benchmark_train as measure

        images = images or (TRAIN_XRAYS if bundle.scan else TRAIN_SLICES)
        if images < LEAST_TRAIN:
            raise UserError(f"--images must be {LEAST_TRAIN} or more for `benchmark train`, got {images}.")
        options |= {"dataset_dir": dataset_dir, "images": 32 if quick else images}
    elif kind == "predict":
        from pipelines.benchmarks.predict import benchmark_predict as measure

        require_engine(engine)
        if ckpt_path:
            find_checkpoints(str(ckpt_path), "")
        options |= {"inputs": dataset_dir, "engine": engine, "cases": 4 if quick else images}
        options["ckpt_path"] = ckpt_path
        if engine != PYTORCH:
            options["device"] = "cpu"
    elif kind == "prepare":
        return _prepare(bundle, dataset_dir, rounds, 8 if quick else None)
    elif kind == "startup":
        from pipelines.benchmarks.startup import benchmark_startup as measure
    else:
        from pipelines.benchmarks.memory import benchmark_memory as measure

        options = {"quick": quick}
    return measure(bundle, **options)


def _check_options(kind: str, **given: object) -> None:
    for name, value in given.items():
        if value is not None and name not in KINDS[kind]:
            takes = ", ".join(f"--{option}" for option in KINDS[kind]) or "none of them"
            raise UserError(
                f"--{name} has no effect on `benchmark {kind}`, which takes {takes}.\nLeave it out."
            )


def _prepare(bundle: Bundle, dataset_dir: Path | None, rounds: int, cases: int | None) -> Benchmark:
    from pipelines.benchmarks.bundle import image_folder, phantom, scratch
    from pipelines.benchmarks.prepare import benchmark_prepare

    bundle.function("scan")  # says so where there is nothing to prepare
    with scratch() as folder:
        source = dataset_dir or phantom(bundle, folder, cases or 200)
        found = benchmark_prepare(image_folder(source), rounds, cases)
    settings = {"rounds": rounds, "files": found["files"], "data": "given" if dataset_dir else "phantom"}
    times = found["cpu_ms"]
    against = {"decode": "reduced-scale decoding alone", "plain": "prepare"}
    figures = [
        Figure(against["decode"], times["decode"], "ms of CPU a file"),
        Figure(
            "prepare",
            times["prepare"],
            "ms of CPU a file",
            found["prepare_over_decode"],
            against["decode"],
            at_most=2.0,
        ),
        Figure(
            "pydicom and scikit-image",
            times["plain"],
            "ms of CPU a file",
            found["plain_over_prepare"],
            against["plain"],
            at_least=10.0,
        ),
    ]
    return Benchmark("prepare", bundle.name, settings, figures)
