"""Progress that a person can watch, and that a log file can hold."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ignite.engine import Engine

Item = TypeVar("Item")
logger = logging.getLogger(__name__)


def track(items: Iterable[Item], description: str) -> Iterator[Item]:
    """Yield ``items`` behind a progress bar on a terminal, and without one where output goes to a file."""
    from rich.progress import track as rich_track

    return iter(rich_track(items, description, transient=True, disable=not sys.stderr.isatty()))


class EpochProgress:
    """Handler that shows the running epoch as a bar and each finished epoch as a line of the log."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._started = 0.0

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Follow ``trainer``, and tell what ``evaluator`` found when it ran."""
        from ignite.engine import Events

        trainer.add_event_handler(Events.EPOCH_STARTED, self._begin)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._tell, evaluator)

    def _begin(self, trainer: Engine) -> None:
        self._started = time.monotonic()
        title = f"Epoch {trainer.state.epoch}/{trainer.state.max_epochs}"
        self._bar = iter(track(range(trainer.state.epoch_length), title))
        next(self._bar, None)

    def _advance(self, trainer: Engine) -> None:
        next(self._bar, None)

    def _tell(self, trainer: Engine, evaluator: Engine) -> None:
        state, best = trainer.state, evaluator.state
        spent = time.monotonic() - self._started
        parts = [f"Epoch {state.epoch:>3}/{state.max_epochs}"]
        parts += [f"{name} {value:.4f}" for name, value in state.metrics.items()]
        if best.epoch == state.epoch:
            name = best.key_metric_name
            parts.append(f"val {name} {best.metrics[name]:.4f} (best {best.best_metric:.4f})")
        left = (state.max_epochs - state.epoch) * spent / 60
        logger.info("%s  %.0f s, about %.0f min left", "  ".join(parts), spent, left)
