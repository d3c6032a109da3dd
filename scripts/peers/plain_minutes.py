"""Train the plain MONAI bundle of the atrium's recipe for some minutes and score it on cases.

    python scripts/peers/plain_minutes.py DIR 10,20 la_017,la_018 OUT

It is ``pipelines/benchmarks/plain.py`` until the time is over, from the start of Python until the weights are written.
The slices are those that the bundle visits in its first epoch, in new batches each epoch. The learning rate is
constant, as it is there, so the weights on the way to 20 minutes are those of a training of 10. A longer training into
the same ``OUT`` goes on from the last of them; its start is not counted again. ``evaluate.yaml`` scores the weights of
each number of minutes.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()  # before what takes long to import

import os  # noqa: E402 (see above)
from collections.abc import Iterator, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import mkdtemp  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from bundle_minutes import arguments, parsed, score  # noqa: E402
from ignite.engine import Events  # noqa: E402
from monai.data import DataLoader  # noqa: E402
from monai.utils import set_determinism  # noqa: E402

from pipelines.benchmarks.bundle import training  # noqa: E402
from pipelines.benchmarks.plain import plain_trainer  # noqa: E402
from pipelines.files import atomic_path  # noqa: E402
from pipelines.registry import get_bundle  # noqa: E402

ENDING = 2.0  # seconds, to write the weights


class Reshuffled:
    """Batches of what an epoch of the bundle visits, drawn anew each time; those of a plane have one size.

    Args:
        dataset: of dictionaries with an ``image``.
        batches: positions, each batch of one size.
        seed: of the drawing.
    """

    def __init__(self, dataset: Sequence[dict], batches: Sequence[list[int]], seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.batches, self.sizes = batches, [tuple(dataset[batch[0]]["image"].shape) for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        drawn = []
        for size in set(self.sizes):
            alike = [batch for batch, its in zip(self.batches, self.sizes, strict=True) if its == size]
            order = self.generator.permutation([position for batch in alike for position in batch]).tolist()
            drawn += [[order.pop() for _ in batch] for batch in alike]
        return (drawn[k] for k in self.generator.permutation(len(drawn)))


def train(folder: Path, dataset_dir: Path, minutes: Sequence[float]) -> dict[float, dict[str, float]]:
    """Train the plain bundle and return what it took until each of ``minutes``, those of an earlier call included.

    Raises:
        SystemExit: an earlier call trained beyond one of ``minutes`` without keeping its weights.
    """
    saved = folder / "training.pt"
    state = torch.load(saved, weights_only=True) if saved.exists() else {"took": {}}
    took: dict[float, dict[str, float]] = state["took"]
    left = sorted(set(minutes) - set(took))
    if left and left[0] < max(took, default=0.0):
        raise SystemExit(f"{folder} went past {left[0]:g} minutes, to {max(took):g}: name a new folder")
    if not left:
        return took
    before = took[max(took)] if took else {"batches": 0, "seconds": 0.0}
    set_determinism(0)  # the slices of the same first epoch
    objects = training(get_bundle("atrium"), Path(mkdtemp(dir=folder)), dataset_dir, 0)
    images = 16 * len(objects.component("train#trainer").data_loader)
    trainer = plain_trainer(objects, images, folder)
    if took:
        trainer.network.load_state_dict(state["network"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        set_determinism(before["batches"])
    old = trainer.data_loader
    sampler = Reshuffled(old.dataset.data, list(old.batch_sampler), before["batches"])
    trainer.data_loader = DataLoader(old.dataset, batch_sampler=sampler)
    trainer.state.max_epochs = 100_000
    started = time.monotonic() - before["seconds"] if took else STARTED

    def save_in_time() -> None:
        if time.monotonic() - started + ENDING <= 60 * left[0]:
            return
        due = left.pop(0)
        weights = folder / f"{due:g}/run/model.pt"
        weights.parent.mkdir(parents=True, exist_ok=True)
        torch.save(trainer.network.state_dict(), weights)
        count = before["batches"] + trainer.state.iteration
        epochs = count / len(trainer.data_loader)
        took[due] = {"batches": count, "epochs": epochs, "seconds": time.monotonic() - started}
        parts = {"network": trainer.network.state_dict(), "optimizer": trainer.optimizer.state_dict()}
        with atomic_path(saved) as partial:
            torch.save({**parts, "took": took}, partial)
        if not left:
            trainer.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, save_in_time)
    trainer.run()
    return took


def main() -> None:
    """Train and score."""
    given = parsed(arguments(__doc__.splitlines()[0]), several=True)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # goes before the store that the training is given
    for number, took in train(given.output_dir, given.dataset_dir, given.minutes).items():
        score(given.output_dir / f"{number:g}", given.dataset_dir, given.cases, took)


if __name__ == "__main__":
    main()
