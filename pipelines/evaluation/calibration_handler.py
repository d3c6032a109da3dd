"""A training's part in calibration: fitted anew whenever the validation is better than ever before."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.evaluation import calibration
from pipelines.runs import BEST

if TYPE_CHECKING:
    from ignite.engine import Engine

logger = logging.getLogger(__name__)


class BestCalibration:
    """Keeps ``calibration.json`` beside the best weights; one of a run's extras.

    The evaluator decollates, and its items hold ``logits`` (1,) and ``label`` (1,).

    Args:
        pos_weight: of the loss, whose logarithm the logits are too high by.
    """

    def __init__(self, pos_weight: float = 1.0) -> None:
        self.offset = math.log(pos_weight)
        self._clear()

    def attach(self, trainer: Engine, evaluator: Engine, run_dir: Path, tracker: Any) -> None:
        """Collect in each validation; write after the epoch, when the best weights are there."""
        from ignite.engine import Events

        evaluator.add_event_handler(Events.STARTED, self._clear)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._keep, evaluator, Path(run_dir))
        trainer.add_event_handler(
            Events.COMPLETED, lambda: tracker.log_files(Path(run_dir) / calibration.FILE)
        )

    def _clear(self) -> None:
        self._logits: list[float] = []
        self._labels: list[float] = []

    def _collect(self, evaluator: Engine) -> None:
        for item in evaluator.state.output:
            self._logits.append(float(item["logits"]))
            self._labels.append(float(item["label"]))

    def _keep(self, trainer: Engine, evaluator: Engine, run_dir: Path) -> None:
        if self._logits and evaluator.state.best_metric_epoch == trainer.state.epoch:
            try:
                calibration.save(calibration.fit(self._logits, self._labels, self.offset), run_dir / BEST)
            except UserError as error:
                logger.warning("%s", error)
        self._clear()
