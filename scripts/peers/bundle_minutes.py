"""Train the atrium bundle for a number of minutes and score it on cases.

    python scripts/peers/bundle_minutes.py DIR 10 la_017,la_018 OUT [--epochs N]

It is ``train.yaml`` with as many epochs as fit, from the start of Python to its end, one validation included. A
training of one epoch and one of three are timed first, unless ``--epochs`` is given. ``evaluate.yaml`` scores it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

BUNDLE = "bundles/atrium"


def run_bundle(config: str, folder: Path, **overrides: object) -> float:
    """Run one of the bundle's YAML files, its MLflow store in ``folder``, and return the seconds that it took."""
    overrides |= {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "experiment_name": "minutes"}
    options = [text for name, value in overrides.items() for text in (f"--{name}", str(value))]
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        f"{BUNDLE}/{config}.yaml",
        *options,
    ]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    started = time.monotonic()
    subprocess.run(command, check=True, env=environment)  # noqa: S603 (this project's own command)
    return time.monotonic() - started


def train(folder: Path, dataset_dir: Path, minutes: float, epochs: int | None) -> dict[str, float]:
    """Train ``train.yaml`` into ``run`` for as many epochs as fit and return what it took."""

    def training(name: str, n: int) -> float:
        given = {"dataset_dir": dataset_dir, "output_dir": folder, "run_name": name}
        return run_bundle("train", folder, **given, max_epochs=n, val_interval=n)

    if not epochs:
        training("warm", 1)  # the MLflow store is made, files are in memory
        one, three = training("one", 1), training("three", 3)
        epoch = (three - one) / 2
        epochs = max(1, int((60 * minutes - (one - epoch)) / epoch))
        print(
            f"{one - epoch:.1f} s to start, validate and end, {epoch:.2f} s an epoch: {epochs} epochs",
            flush=True,
        )
    return {"epochs": epochs, "seconds": training("run", epochs)}


def score(folder: Path, dataset_dir: Path, cases: str, took: dict[str, float]) -> None:
    """Score the weights in ``run`` and print the mean Dice, its interval and what the training took."""
    where = {"ckpt_path": folder / "run", "dataset_dir": dataset_dir, "output_dir": folder / "scores"}
    took["evaluate_s"] = run_bundle("evaluate", folder, **where, cases=cases)
    content = json.loads((folder / "scores/metrics.json").read_text(encoding="utf-8"))
    print(json.dumps({**took, "mean_dice": content["metrics"]["mean_dice"]}))


def minutes(text: str) -> list[float]:
    """Return numbers that are separated by commas."""
    return [float(number) for number in text.split(",")]


def arguments(description: str) -> argparse.ArgumentParser:
    """Return the arguments of a training that takes minutes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("dataset_dir", type=lambda path: Path(path).absolute())
    parser.add_argument("minutes", type=minutes)
    parser.add_argument("cases", help="separated by commas")
    parser.add_argument("output_dir", type=lambda path: Path(path).absolute())
    return parser


def parsed(parser: argparse.ArgumentParser, several: bool = False) -> argparse.Namespace:
    """Return what the command line gives, ``minutes`` as a list; end with a message where it can't be done.

    Args:
        parser: see :func:`arguments`.
        several: whether there may be several numbers of minutes.
    """
    given = parser.parse_args()
    if not all(0 < number < math.inf for number in given.minutes) or (len(given.minutes) > 1 and not several):
        parser.error(
            f"expected {'numbers' if several else 'a number'} of minutes above 0, got {given.minutes}"
        )
    kinds = "imagesTr", "labelsTr"
    files = [given.dataset_dir / f"{kind}/{case}.nii.gz" for case in given.cases.split(",") for kind in kinds]
    if missing := [path for path in files if not path.is_file()]:
        parser.error(
            f"expected a case's file at {missing[0]}, which does not exist: name cases of the data set"
        )
    try:
        given.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"expected a folder to write into, got {given.output_dir}: {error.strerror}")
    return given


def main() -> None:
    """Train and score."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int)
    given = parsed(parser)
    if given.epochs is not None and given.epochs < 1:
        parser.error(f"expected --epochs from 1, got {given.epochs}")
    took = train(given.output_dir, given.dataset_dir, given.minutes[0], given.epochs)
    score(given.output_dir, given.dataset_dir, given.cases, took)


if __name__ == "__main__":
    main()
