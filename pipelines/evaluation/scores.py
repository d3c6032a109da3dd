"""What handlers share that score an evaluator's cases one by one and write the result contract."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from ignite.engine import Engine


class CaseScores:
    """Base of handlers that collect a row of scores a case in ``_rows`` and write them at the end.

    A subclass has ``_score(engine)``, which adds rows, ``_metrics_of(cases)``, which gives the metrics of the result
    contract, and ``_write()``; one that keeps more of a case extends ``_clear()``.

    At ``EPOCH_COMPLETED`` the values of the metrics (undefined ones left out) join ``engine.state.metrics``: handlers
    that log metrics at that event see them when attached after this one. ``_write`` runs at ``COMPLETED``.

    Args:
        folder: the run's folder, or another where results belong.
        bundle: such as "atrium".
        checkpoint: the evaluated file.
        dataset: ``dir`` and ``hash`` of the data set.

    Raises:
        UserError: at run time, when no case comes.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        bundle: str,
        checkpoint: str | os.PathLike[str],
        dataset: Mapping[str, Any],
    ) -> None:
        self.folder, self.bundle, self.checkpoint, self.dataset = Path(folder), bundle, checkpoint, dataset
        self._clear()

    def attach(self, engine: Engine) -> None:
        """Register with ``engine``, as MONAI's engines ask of their handlers."""
        from ignite.engine import Events

        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._summarise)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _clear(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._metrics: dict[str, dict[str, Any]] = {}

    def _score(self, engine: Engine) -> None:
        raise NotImplementedError

    def _metrics_of(self, cases: pd.DataFrame) -> dict[str, dict[str, Any]]:
        raise NotImplementedError

    def _write(self) -> None:
        raise NotImplementedError

    def _summarise(self, engine: Engine) -> None:
        if not self._rows:
            raise UserError(
                "expected at least one case to evaluate, got none; check the data set and the split"
            )
        self._metrics = self._metrics_of(self._cases())
        values = {name: metric["value"] for name, metric in self._metrics.items()}
        engine.state.metrics.update({name: value for name, value in values.items() if np.isfinite(value)})

    def _cases(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self._rows)
