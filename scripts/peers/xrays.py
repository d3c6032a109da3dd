"""Milliseconds to read a chest X-ray as this project does: from the file, as ``prepare`` does, or prepared.

    python scripts/peers/xrays.py file|prepare|training DIR [--files 160]

``file`` is one ``read_xray_reduced`` after the other. ``prepare`` is what ``python -m pipelines prepare`` calls, with
one process and into an empty folder. ``training`` is the loader of `bundles/pneumonia/train.yaml` and its augmentation,
from images that were prepared before. To be run by ``turns.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from side import answer, clock

from pipelines.benchmarks.bundle import scratch, training
from pipelines.prepare import prepare
from pipelines.readers.xray import find_images, read_xray_reduced
from pipelines.registry import get_bundle

SIZE = 224


def of_training(folder: Path, dataset_dir: Path, files: int) -> Callable[[], int]:
    """Return what loads and augments ``files`` images of a training, less those that fill no batch, and counts them."""
    given = {"train_cases": files, "val_cases": 16, "cache_dir": str(folder / "cache")}
    trainer = training(get_bundle("pneumonia"), folder, dataset_dir, files, **given).component(
        "train#trainer"
    )
    return lambda: sum(len(trainer.prepare_batch(b, trainer.state.device)[0]) for b in trainer.data_loader)


def main() -> None:
    """Find the files and answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=["file", "prepare", "training"])
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--files", type=int, default=160)
    given = parser.parse_args()
    if given.files < 1:
        parser.error(f"expected --files from 1, got {given.files}")
    items = find_images([given.dataset_dir / "stage_2_train_images"])[: given.files]

    def read() -> int:
        return len([read_xray_reduced(item.path, SIZE) for item in items])

    def prepared() -> int:
        with tempfile.TemporaryDirectory() as cache:
            prepare(items, cache, SIZE, workers=1)
        return len(items)

    with scratch() as folder:
        ways = {"file": read, "prepare": prepared}
        work = ways.get(given.way) or of_training(folder, given.dataset_dir, given.files)

        def measure() -> float:
            started = clock()
            images = work()
            return 1000 * (clock() - started) / images

        answer(measure)


if __name__ == "__main__":
    main()
