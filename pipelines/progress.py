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
    if not sys.stderr.isatty():
        return iter(items)
    from rich.console import Console
    from rich.progress import track as rich_track

    # twice a second: drawing costs a training time as well
    return iter(
        rich_track(items, description, transient=True, console=Console(stderr=True), refresh_per_second=2)
    )


class EpochProgress:
    """Handler that shows the running epoch as a bar and each finished epoch as a line of the log."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._started, self._done = 0.0, 0

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Follow ``trainer``, and tell what ``evaluator`` found when it ran."""
        from ignite.engine import Events

        trainer.add_event_handler(Events.STARTED, self._start)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._begin)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._tell, evaluator)

    def close(self) -> None:
        """Take away a bar that an error has left on the terminal."""
        if hasattr(self._bar, "close"):
            self._bar.close()

    def _start(self, trainer: Engine) -> None:
        self._started, self._done = time.monotonic(), trainer.state.epoch

    def _begin(self, trainer: Engine) -> None:
        title = f"Epoch {trainer.state.epoch}/{trainer.state.max_epochs}"
        self._bar = iter(track(range(trainer.state.epoch_length), title))
        next(self._bar, None)

    def _advance(self, trainer: Engine) -> None:
        next(self._bar, None)

    def _tell(self, trainer: Engine, evaluator: Engine) -> None:
        state, best = trainer.state, evaluator.state
        parts = [f"Epoch {state.epoch:>3}/{state.max_epochs}"]
        parts += [f"{name} {value:.4f}" for name, value in state.metrics.items()]
        if best.epoch == state.epoch:
            name = best.key_metric_name
            parts.append(f"val {name} {best.metrics[name]:.4f} (best {best.best_metric:.4f})")
        pace = (time.monotonic() - self._started) / (state.epoch - self._done)
        left = (state.max_epochs - state.epoch) * pace
        logger.info("%s  %.1f s an epoch, %s left", "  ".join(parts), pace, readable_time(left))


def readable_time(seconds: float) -> str:
    """Return a duration to the nearest second below two minutes, and to the nearest minute above."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
