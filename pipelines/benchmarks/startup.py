"""How long a person waits before anything happens: the command line's answer, and a training's first step."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from pipelines.benchmarks.report import Benchmark, Figure, median_ratio

if TYPE_CHECKING:
    from ignite.engine import Engine

    from pipelines.registry import Bundle


def benchmark_startup(bundle: Bundle, rounds: int = 3, **overrides: Any) -> Benchmark:
    """Time four new processes in turns.

    - ``python -c pass``
    - ``python -m pipelines --help``
    - ``import torch, monai``, without the end of the process, which takes a second more
    - ``train.yaml`` of the bundle on a few small phantoms, until its first step is done. The MLflow store and the
      cache of X-rays are there already, as they are whenever it is not the first training.

    Args:
        bundle: what trains.
        rounds: how often.
        **overrides: of ``train.yaml``.
    """
    import json

    from pipelines.benchmarks.bundle import phantom, scratch

    with scratch() as folder:
        cases, training, validating = (20, 12, 6) if bundle.scan else (4, 3, 1)
        dataset = phantom(bundle, folder, cases, 64)
        knobs = {"dataset_dir": str(dataset), "output_dir": str(folder / "runs")}
        knobs |= {"train_cases": training, "val_cases": validating}
        knobs["tracking_uri"] = f"sqlite:///{folder / 'mlflow.db'}"
        if bundle.scan:
            knobs["cache_dir"] = str(folder / "cache")
        arguments = [str(bundle.config("train")), json.dumps({**knobs, **overrides})]
        commands = {
            "python": ["-c", "pass"],
            "help": ["-m", "pipelines", "--help"],
            "imports": ["-c", "import os, torch, monai; os._exit(0)"],
            "step": ["-c", "from pipelines.benchmarks.startup import first_step; first_step()", *arguments],
        }
        seconds = timed_in_turns(commands, rounds)
    return Benchmark("startup", bundle.name, {"rounds": rounds}, figures(seconds))


def timed_in_turns(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Return each Python command's seconds, one a round, after one round that fills the caches."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, arguments in commands.items():
            started = time.perf_counter()
            subprocess.run(  # noqa: S603 - this Python
                [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def figures(seconds: Mapping[str, Sequence[float]]) -> list[Figure]:
    """Return what the four commands' ``seconds`` mean."""
    step = median_ratio(seconds["step"], seconds["imports"])
    return [
        Figure("python -c pass", median(seconds["python"]), "s"),
        Figure("python -m pipelines --help", median(seconds["help"]), "s", at_most=1.0),
        Figure("importing torch and monai", median(seconds["imports"]), "s"),
        Figure(
            "first training step",
            median(seconds["step"]),
            "s",
            step,
            "importing torch and monai",
            at_most=1.3,
        ),
    ]


def first_step() -> None:
    """Run the training that the arguments name until its first step is done."""
    import json

    from pipelines.launch import run_bundle

    config, knobs = sys.argv[1], json.loads(sys.argv[2])
    run_bundle(config, **knobs, **{"whole_run#extras": [{"_target_": f"{__name__}.StopAfterFirstStep"}]})


class StopAfterFirstStep:
    """Handler that ends the process, at once, when a trainer has made its first step."""

    def attach(self, trainer: Engine, *_: Any) -> None:
        """Wait for the first step of ``trainer``; one of a run's ``extras``."""
        from ignite.engine import Events

        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: os._exit(0))
