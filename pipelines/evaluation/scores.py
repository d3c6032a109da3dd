"""What handlers share that score an evaluator's cases one by one and write the result contract."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from ignite.engine import Engine


def notable(scores: Sequence[float]) -> dict[str, int]:
    """Return which of some scores is the worst, the median and the best (the highest), none twice.

    One score is the worst alone, and two are worst and best.
    """
    order = [int(row) for row in np.argsort(np.asarray(scores, float), kind="stable")]
    chosen = {"worst": order[0]}
    if len(order) > 2:
        chosen["median"] = order[len(order) // 2]
    if len(order) > 1:
        chosen["best"] = order[-1]
    return chosen


def draw_notable(scores: Sequence[float], folder: Path, draw: Callable[[int, str, Path], None]) -> None:
    """Draw the :func:`notable` cases as ``overlay_{worst,median,best}.png`` and remove those of earlier times.

    Args:
        scores: (N,) a score a case, the higher the better.
        folder: where to.
        draw: takes the row, which of them it is, and the path.
    """
    for old in folder.glob("overlay_*.png"):
        old.unlink()
    for name, row in notable(scores).items():
        draw(row, name, folder / f"overlay_{name}.png")


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
