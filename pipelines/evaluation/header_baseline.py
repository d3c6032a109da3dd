"""What the header alone tells of a label: a logistic regression on view, sex and age, which a network has to beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.datasets.datalist import Case
from pipelines.files import write_json
from pipelines.runs import read_json

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.prepared import PreparedSet

FILE = "header_baseline.json"
FEATURES = ("AP", "PA", "female", "male", "age known", "age / 50 - 1")
_PENALTY = 1.0  # scikit-learn's default: 1 / C


def features(headers: pd.DataFrame) -> np.ndarray:
    """Return (N, 6) numbers of ``view``, ``sex`` and ``age`` (years), see ``FEATURES``; what is unknown is 0."""
    age = headers["age"].astype(float).to_numpy()
    known = np.isfinite(age)
    columns = [headers["view"] == "AP", headers["view"] == "PA", headers["sex"] == "F", headers["sex"] == "M"]
    return np.column_stack([*columns, known, np.where(known, age / 50 - 1, 0)]).astype(float)


def fit(headers: pd.DataFrame, labels: Sequence[float]) -> list[float]:
    """Return the intercept and the weight of each feature, by penalised log loss (scikit-learn's with C = 1)."""
    from scipy.optimize import minimize

    table = np.column_stack([np.ones(len(headers)), features(headers)])
    sign = np.where(np.asarray(labels, dtype=float) > 0, 1.0, -1.0)

    def loss(weights: np.ndarray) -> float:
        return np.logaddexp(0, -sign * (table @ weights)).sum() + _PENALTY / 2 * (weights[1:] ** 2).sum()

    return minimize(loss, np.zeros(table.shape[1])).x.tolist()


def probability(weights: Sequence[float], headers: pd.DataFrame) -> np.ndarray:
    """Return (N,) probabilities by the header alone."""
    from scipy.special import expit

    return expit(weights[0] + features(headers) @ np.asarray(weights[1:], dtype=float))


def load(run_dir: Path) -> list[float] | None:
    """Return the weights that a training left in its run folder, or None."""
    weights = read_json(run_dir / FILE).get("weights")
    usable = isinstance(weights, list) and len(weights) == len(FEATURES) + 1
    return weights if usable and all(math.isfinite(weight) for weight in weights) else None


class HeaderBaseline:
    """Fits the baseline to the cases that train a network and keeps it in the run folder; one of the run's extras.

    Args:
        cases: those that train, with ``label``.
        prepared: their headers; who could not be prepared is left out.
    """

    def __init__(self, cases: Sequence[Case], prepared: PreparedSet) -> None:
        self.cases = [case for case in cases if case["case"] in prepared.index]
        self.prepared = prepared

    def attach(self, trainer: Any, evaluator: Any, run_dir: Path, tracker: Any) -> None:
        """Write ``header_baseline.json`` when the training starts."""
        from ignite.engine import Events

        trainer.add_event_handler(Events.STARTED, self.write, run_dir)

    def write(self, run_dir: Path) -> None:
        """Fit and write."""
        headers = self.prepared.table.iloc[[self.prepared.index[case["case"]] for case in self.cases]]
        weights = fit(headers, [case["label"] for case in self.cases])
        write_json(Path(run_dir) / FILE, {"features": FEATURES, "weights": weights})
