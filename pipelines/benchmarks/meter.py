"""The clock of a training: its own loop, and between two epochs whatever else is to be measured."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents, SupervisedTrainer
from monai.utils import CommonKeys
from torch.utils.data import DataLoader

Shape = tuple[int, ...]

# what the time of an epoch is divided among, nothing left over
PARTS = ("network in the loop", "drawing the batch", "augmentation", "events", "end of the epoch")
NETWORK, BATCH, AUGMENTATION, EVENTS, ENDS = PARTS


class EpochMeter:
    """Times each epoch of a trainer, everything that happens in it included, less what its evaluator takes.

    The first epoch warms up. To be made after all other handlers were attached.

    Args:
        trainer: gets at most ``images`` images an epoch.
        evaluator: its validation is timed apart; None where there is none.
        images: how many make an epoch, at most; None is all.
        between: called after each epoch, off the clock.

    Attributes:
        loop_s: seconds of each epoch after the first.
        images: of each epoch after the first.
        shapes: how many batches of each shape each of them had.
        batches: one batch, image and label, of each shape.
        validation_s: seconds of each validation, with what is written after it.
        parts_s: what each number of ``loop_s`` is made of, see :data:`PARTS`: the network (forward, loss, backward,
            optimizer), drawing the batch (the loader), augmentation (and the batch's way to the device), events of a
            step (metric, schedule, averaged weights, bar), and the end of the epoch (checkpoint, MLflow). By the host's
            clock: what a GPU was asked to do is in the part that first waits for it.
    """

    def __init__(
        self,
        trainer: SupervisedTrainer,
        evaluator: Engine | None,
        images: int | None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self.trainer, self.between = trainer, between
        self.loop_s: list[float] = []
        self.validation_s: list[float] = []
        self.images: list[int] = []
        self.batches: dict[Shape, tuple[Any, Any]] = {}
        self.shapes: list[Counter[Shape]] = []
        self.parts_s: list[dict[str, float]] = []
        self._now: Counter[Shape] = Counter()
        self._parts: Counter[str] = Counter()
        self._started, self._validating, self._lapped = 0.0, 0.0, 0.0
        if images is not None:
            most = max(1, images // batch_size(trainer.data_loader))
            trainer.state.epoch_length = min(trainer.state.epoch_length, most)
        self._add_laps(trainer)
        trainer.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._look)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._pause)
        if evaluator is not None:
            evaluator.add_event_handler(Events.STARTED, self._validate)
            evaluator.add_event_handler(Events.COMPLETED, self._validated)

    def alone(self) -> dict[Shape, float]:
        """Return :func:`step_seconds` of the shapes met so far, of about half as many steps as an epoch has."""
        steps = max(2, self.trainer.state.epoch_length // len(self.batches) // 2)
        return step_seconds(self.trainer, self.batches, steps)

    def start(self) -> None:
        """Start the clock of an epoch anew, where other things happened since the one before."""
        self._parts = Counter()
        self._started = self._lapped = now(self.trainer.state.device)

    def _add_laps(self, trainer: SupervisedTrainer) -> None:
        """Have the time since the lap before added to a part whenever that part is over."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self._lap, ENDS)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._lap, EVENTS)
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self._lap, BATCH)
        prepare = trainer.prepare_batch

        def prepare_batch(*args: Any, **kwargs: Any) -> Any:
            self._lap(EVENTS)
            batch = prepare(*args, **kwargs)
            self._lap(AUGMENTATION)
            return batch

        trainer.prepare_batch = prepare_batch
        trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, self._lap, NETWORK)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._lap, EVENTS)

    def _lap(self, part: str) -> None:
        lapped = time.perf_counter()
        self._parts[part] += lapped - self._lapped
        self._lapped = lapped

    def _look(self, trainer: Engine) -> None:
        image, label = (trainer.state.output[key] for key in (CommonKeys.IMAGE, CommonKeys.LABEL))
        self.batches.setdefault(tuple(image.shape), (image, label))
        self._now[tuple(image.shape)] += 1

    def _validate(self) -> None:
        self._validating = now(self.trainer.state.device)
        self._lap(ENDS)

    def _validated(self) -> None:
        self._lapped = now(self.trainer.state.device)
        self.validation_s.append(self._lapped - self._validating)

    def _pause(self, trainer: Engine) -> None:
        ended = now(trainer.state.device)
        self._lap(ENDS)
        if trainer.state.epoch > 1:
            validated = self.validation_s[-1] if self._validating > self._started else 0.0
            self.loop_s.append(ended - self._started - validated)
            self.images.append(sum(count * shape[0] for shape, count in self._now.items()))
            self.shapes.append(self._now)
            self.parts_s.append(dict(self._parts))
        self.between()
        self._now = Counter()
        self.start()


def batch_size(loader: DataLoader) -> int:
    """Return how many samples a batch of a loader has."""
    return loader.batch_size or loader.batch_sampler.batch_size


def step_seconds(trainer: SupervisedTrainer, batches: Mapping[Shape, Any], steps: int) -> dict[Shape, float]:
    """Return the seconds that the network alone takes for a batch of each shape, the median of ``steps``.

    It is the trainer's own step (forward, loss, backward, optimizer, with its precision and memory format) on batches
    that stay where they are: no loader, augmentation, event or handler.

    Args:
        trainer: in training; its weights go on from where the steps leave them.
        batches: shape to image and label.
        steps: of each shape.
    """
    prepare, output = trainer.prepare_batch, trainer.state.output
    trainer.fire_event = lambda *_: None
    try:
        seconds = {}
        for shape, resident in batches.items():
            trainer.prepare_batch = lambda *_, resident=resident, **__: resident
            seconds[shape] = statistics.median(_step(trainer) for _ in range(steps))
        return seconds
    finally:
        trainer.prepare_batch, trainer.state.output = prepare, output
        del trainer.fire_event  # the method shows again


def _step(trainer: SupervisedTrainer) -> float:
    started = now(trainer.state.device)
    trainer._iteration(trainer, {})  # what MONAI's engine calls for a batch
    return now(trainer.state.device) - started


def epoch_seconds(shapes: Mapping[Shape, int], *turns: Mapping[Shape, float]) -> float:
    """Return the seconds of an epoch of so many batches of each shape, from the mean of the turns that measured it."""
    known = {shape: [turn[shape] for turn in turns if shape in turn] for shape in shapes}
    return sum(count * statistics.mean(known[shape]) for shape, count in shapes.items())


def now(device: torch.device | str) -> float:
    """Return the clock in seconds, once the device has done what it was asked to."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
