"""How many training images a second `bundles/atrium/train.yaml` loads and augments, without a network.

    python scripts/peers/loader.py DIR [--workers 2] [--planes "[2]"] [--images 960]

To be run by ``turns.py``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from side import answer, clock

from pipelines.benchmarks.bundle import scratch, training
from pipelines.registry import get_bundle


def main() -> None:
    """Prepare the volumes and answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--planes", default="[2]")
    parser.add_argument("--images", type=int, default=960)
    given = parser.parse_args()
    overrides = {"num_workers": given.workers, "planes": json.loads(given.planes)}
    with scratch() as folder:
        objects = training(get_bundle("atrium"), folder, given.dataset_dir, given.images, **overrides)
        trainer = objects.component("train#trainer")
        objects.component("train#volumes")

        def measure() -> float:
            started, images = clock(), 0
            while images < given.images:
                for batch in trainer.data_loader:
                    images += len(trainer.prepare_batch(batch, trainer.state.device)[0])
                    if images >= given.images:
                        break
            return images / (clock() - started)

        answer(measure)


if __name__ == "__main__":
    main()
