"""What was measured in each epoch of a training."""

from __future__ import annotations

import copy

from ignite.engine import Engine, Events


class History:
    """Handler that keeps every epoch's metrics of a trainer and its evaluator.

    ``values`` maps a name (``train/loss``, ``val/mean_dice``) to its ``[epoch, value]`` pairs.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[list[float]]] = {}

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Record ``trainer``'s metrics under ``train/`` and ``evaluator``'s under ``val/``."""

        def record(prefix: str, engine: Engine) -> None:
            for name, value in engine.state.metrics.items():
                self.values.setdefault(f"{prefix}/{name}", []).append([trainer.state.epoch, float(value)])

        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: record("train", trainer))
        evaluator.add_event_handler(Events.COMPLETED, lambda: record("val", evaluator))

    def state_dict(self) -> dict:
        """Return a copy of the values."""
        return copy.deepcopy(self.values)

    def load_state_dict(self, state: dict) -> None:
        """Set the values to a copy of ``state``."""
        self.values = copy.deepcopy(state)
