"""The clock of a training: its own loop, and between two epochs whatever else is to be measured."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents, SupervisedTrainer
from monai.utils import CommonKeys
from torch.utils.data import DataLoader


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
        validation_s: seconds of each validation, with what is written after it.
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
        self.batches: dict[tuple[int, ...], tuple[Any, Any]] = {}  # one of each shape
        self.shapes: Counter[tuple[int, ...]] = Counter()  # of the last epoch
        self._started, self._seen, self._validating = 0.0, 0, 0.0
        if images is not None:
            most = max(1, images // batch_size(trainer.data_loader))
            trainer.state.epoch_length = min(trainer.state.epoch_length, most)
        trainer.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._look)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._pause)
        if evaluator is not None:
            evaluator.add_event_handler(Events.STARTED, self._validate)
            evaluator.add_event_handler(Events.COMPLETED, self._validated)

    def start(self) -> None:
        """Start the clock of an epoch anew, where other things happened since the one before."""
        self._started = now(self.trainer.state.device)

    def _look(self, trainer: Engine) -> None:
        image, label = (trainer.state.output[key] for key in (CommonKeys.IMAGE, CommonKeys.LABEL))
        shape = tuple(image.shape)
        if trainer.state.epoch == 1:
            self.batches.setdefault(shape, (image, label))
        if shape in self.batches:  # a rare last batch of another size is not worth a step of its own
            self.shapes[shape] += 1
        self._seen += len(image)

    def _validate(self) -> None:
        self._validating = now(self.trainer.state.device)

    def _validated(self) -> None:
        self.validation_s.append(now(self.trainer.state.device) - self._validating)

    def _pause(self, trainer: Engine) -> None:
        ended = now(trainer.state.device)
        if trainer.state.epoch > 1:
            validated = self.validation_s[-1] if self._validating > self._started else 0.0
            self.loop_s.append(ended - self._started - validated)
            self.images.append(self._seen)
        self.between()
        self.shapes, self._seen = Counter(), 0
        self.start()


def batch_size(loader: DataLoader) -> int:
    """Return how many samples a batch of a loader has."""
    return loader.batch_size or loader.batch_sampler.batch_size


def step_seconds(trainer: SupervisedTrainer, meter: EpochMeter, steps: int = 4) -> float:
    """Return the seconds that the network alone takes for the batches of the last epoch.

    It is the trainer's own step (forward, loss, backward, optimizer, with its precision and memory format) on batches
    that stay where they are, one of each shape: no loader, augmentation, event or handler. A shape's median step counts
    as often as the epoch had that shape.

    Args:
        trainer: in training; its weights go on from where the steps leave them.
        meter: of the trainer.
        steps: of each shape.
    """
    prepare, output = trainer.prepare_batch, trainer.state.output
    total = 0.0
    try:
        for shape, count in meter.shapes.items():
            resident = meter.batches[shape]
            trainer.prepare_batch = lambda *_, resident=resident, **__: resident
            trainer.fire_event = lambda *_: None
            total += count * _median_seconds(trainer, min(steps, count))
    finally:
        trainer.prepare_batch, trainer.state.output = prepare, output
        del trainer.fire_event  # the method shows again
    return total


def _median_seconds(trainer: SupervisedTrainer, steps: int) -> float:
    seconds = []
    for _ in range(steps):
        started = now(trainer.state.device)
        trainer._iteration(trainer, {})  # what MONAI's engine calls for a batch
        seconds.append(now(trainer.state.device) - started)
    return statistics.median(seconds)


def now(device: torch.device | str) -> float:
    """Return the clock in seconds, once the device has done what it was asked to."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
