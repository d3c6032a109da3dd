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
from pipelines.errors import UserError
from pipelines.progress import track

if TYPE_CHECKING:
    from ignite.engine import Engine

    from pipelines.registry import Bundle

STOP = [{"_target_": f"{__name__}.StopAfterFirstStep"}]


def benchmark_startup(bundle: Bundle, rounds: int = 3, **overrides: Any) -> Benchmark:
    """Time five new processes in turns.

    - ``python -c pass``
    - ``python -m pipelines --help``
    - ``import torch, monai``, without the end of the process, which takes a second more
    - ``python -m monai.bundle run`` of the bundle's ``train.yaml`` on a few small phantoms, until its first step is
      done. The MLflow store and the cache of X-rays are there already, as they are after the first training.
    - the same training as a fold of ``crossval`` starts it, see :mod:`pipelines.launch`

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
        config, knobs = str(bundle.config("train")), {**knobs, **overrides, "whole_run::extras": STOP}
        options = [part for name, value in knobs.items() for part in (f"--{name}", str(value))]
        fold = f"from {__name__} import run_as_a_fold; run_as_a_fold()"
        commands = {
            "python": ["-c", "pass"],
            "help": ["-m", "pipelines", "--help"],
            "imports": ["-c", "import os, torch, monai; os._exit(0)"],
            "step": ["-m", "monai.bundle", "run", "--config_file", config, *options],
            "fold": ["-c", fold, config, json.dumps(knobs)],
        }
        seconds = timed_in_turns(commands, rounds)
    return Benchmark("startup", bundle.name, {"rounds": rounds}, figures(seconds))


def timed_in_turns(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Return each Python command's seconds, one a round, after one round that fills the caches."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in track(range(rounds + 1), "Measuring"):
        for name, arguments in commands.items():
            started = time.perf_counter()
            done = subprocess.run(  # noqa: S603 - this Python
                [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            took = time.perf_counter() - started
            if done.returncode:
                said = "\n".join(done.stderr.strip().splitlines()[-3:])
                raise UserError(
                    f"The process that was timed as '{name}' ended with code {done.returncode}:\n{said}"
                )
            if number:
                seconds[name].append(took)
    return seconds


def figures(seconds: Mapping[str, Sequence[float]]) -> list[Figure]:
    """Return what the five commands' ``seconds`` mean."""
    steps = {"first training step": "step", "the same as a fold of crossval": "fold"}
    imports = "importing torch and monai"
    return [
        Figure("python -c pass", median(seconds["python"]), "s"),
        Figure("python -m pipelines --help", median(seconds["help"]), "s", at_most=1.0),
        Figure(imports, median(seconds["imports"]), "s"),
        *(
            Figure(
                name,
                median(seconds[key]),
                "s",
                median_ratio(seconds[key], seconds["imports"]),
                imports,
                at_most=1.3,
            )
            for name, key in steps.items()
        ),
    ]


def run_as_a_fold() -> None:
    """Run the YAML file that the first argument names, with the settings that the second holds as JSON."""
    import json

    from pipelines.launch import run_bundle

    run_bundle(sys.argv[1], **json.loads(sys.argv[2]))


class StopAfterFirstStep:
    """Handler that ends the process, at once, when a trainer has made its first step."""

    def attach(self, trainer: Engine, *_: Any) -> None:
        """Wait for the first step of ``trainer``; one of a run's ``extras``."""
        from ignite.engine import Events

        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: os._exit(0))
