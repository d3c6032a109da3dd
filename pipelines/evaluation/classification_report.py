"""The metrics of a classification over cases, with intervals by patient, and the same by view, sex and age."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.checks.xray import age_band
from pipelines.evaluation import classification as scores
from pipelines.evaluation.results import estimate, estimates

if TYPE_CHECKING:
    import pandas as pd

Metrics = dict[str, dict[str, Any]]
Statistic = tuple[Callable[..., float], str]  # of the labels and this column
_FEWEST = 5  # of each label in a part of the cases that gets an AUROC of its own


def summarise(cases: pd.DataFrame, groups: Sequence[Hashable]) -> Metrics:
    """Return the metrics of the result contract.

    Args:
        cases: ``label`` (0 or 1), ``probability``, ``uncalibrated`` (probability before temperature scaling),
            ``decision_<operating point>`` (0 or 1), ``view``, ``sex``, ``age`` (years), and where they are known
            ``header_only`` (probability), ``pointing``, ``box_share`` and ``iou`` (NaN for cases without a box).
            ``cross_fitted`` (probability by temperatures of other patients) is there where temperature and thresholds
            were fitted on these very cases: it is then what is scored as calibrated, and the metrics concerned say so
            as their ``note``.
        groups: (N,) patient of each case: intervals resample patients.
    """
    return {
        **_scores(cases, groups),
        **_gain(cases, groups),
        **_places(cases, groups),
        **_named_by_part(cases, groups),
    }


def by_part(cases: pd.DataFrame, groups: Sequence[Hashable]) -> dict[str, dict[str, Any]]:
    """Return the scores of each view, sex and age band: what ``metrics.json`` holds under ``parts``.

    Args:
        cases: see :func:`summarise`.
        groups: likewise.

    Returns:
        ``{part: {"cases": N, "positives": N, "metrics": {…}}}``, such as ``view_AP``. Each metric is called, and made,
        as that of all cases; a part with fewer than five of either label is counted and has none.
    """
    found = {}
    for name, chosen in parts(cases):
        part, of = cases[chosen], np.asarray(groups)[chosen]
        metrics = _scores(part, of) if _is_scored(part) else {}
        positives = int((part["label"] > 0).sum())
        found[name] = {"cases": len(part), "positives": positives, "metrics": metrics}
    return found


def _scores(cases: pd.DataFrame, groups: Sequence[Hashable]) -> Metrics:
    """Return what is told of all cases and of each part of them alike."""
    fitted_here = "cross_fitted" in cases
    calibrated = "cross_fitted" if fitted_here else "probability"
    statistics: dict[str, Statistic] = {
        "auroc": (scores.auroc, "probability"),
        "average_precision": (scores.average_precision, "probability"),
        "brier": (scores.brier, calibrated),
        "calibration_error": (scores.calibration_error, calibrated),
        "brier_uncalibrated": (scores.brier, "uncalibrated"),
        "calibration_error_uncalibrated": (scores.calibration_error, "uncalibrated"),
    }
    for point in scores.OPERATING_POINTS:
        statistics |= _decisions(point)
    metrics = _of(cases, groups, statistics)
    if fitted_here:
        metrics = {name: {**metric, **_note(name)} for name, metric in metrics.items()}
    return {**metrics, **_of(cases, groups, {"auroc_header_only": (scores.auroc, "header_only")})}


def _of(cases: pd.DataFrame, groups: Sequence[Hashable], statistics: Mapping[str, Statistic]) -> Metrics:
    """Return each statistic of (labels, its column) over ``cases``; of columns that are not there, none."""
    columns = ["label", *dict.fromkeys(column for _, column in statistics.values() if column in cases)]
    called = {
        name: partial(_of_column, function, columns.index(column))
        for name, (function, column) in statistics.items()
        if column in cases
    }
    return estimates(cases[columns].to_numpy(float), called, groups) if called else {}


def _of_column(function: Callable[..., float], column: int, rows: np.ndarray) -> float:
    return function(rows[:, 0], rows[:, column])


def _decisions(point: str) -> dict[str, Statistic]:
    column = f"decision_{point}"
    return {
        f"sensitivity_{point}": (scores.sensitivity, column),
        f"specificity_{point}": (scores.specificity, column),
    }


def _note(name: str) -> dict[str, str]:
    if name.startswith(("sensitivity", "specificity")):
        return {"note": "the threshold was chosen on these very cases"}
    if name in ("brier", "calibration_error"):
        return {"note": "the temperature was fitted on the other four fifths of these cases"}
    return {}


def _gain(cases: pd.DataFrame, groups: Sequence[Hashable]) -> Metrics:
    """Return what the image adds to the header."""
    if "header_only" not in cases:
        return {}
    rows = cases[["label", "probability", "header_only"]].to_numpy(float)
    return {
        "auroc_gain_over_header": estimate(
            rows, lambda r: scores.auroc(r[:, 0], r[:, 1]) - scores.auroc(r[:, 0], r[:, 2]), groups=groups
        )
    }


def _places(cases: pd.DataFrame, groups: Sequence[Hashable]) -> Metrics:
    """Return how the heat maps of positives with boxes agree with them."""
    if "pointing" not in cases or not cases["pointing"].notna().any():
        return {}
    names = {"pointing_game": "pointing", "pointing_game_by_chance": "box_share", "mean_heat_map_iou": "iou"}
    return {name: estimate(cases[column], groups=groups) for name, column in names.items()}


def _named_by_part(cases: pd.DataFrame, groups: Sequence[Hashable]) -> Metrics:
    """Return the few scores of parts that stand among those of all cases, in MLflow and in comparisons of runs."""
    few = {"auroc": (scores.auroc, "probability"), **_decisions("balanced")}
    metrics: Metrics = {}
    for name, chosen in parts(cases):
        if _is_scored(cases[chosen]):
            found = _of(cases[chosen], np.asarray(groups)[chosen], few)
            metrics |= {f"{metric}_{name}": value for metric, value in found.items()}
    return metrics


def _is_scored(part: pd.DataFrame) -> bool:
    return min((part["label"] > 0).sum(), (part["label"] <= 0).sum()) >= _FEWEST


def parts(cases: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of each view, sex and age band and which cases are in it, (N,) bool."""
    bands = [age_band(None if age != age else age).replace("80+", "80_and_above") for age in cases["age"]]
    columns: Mapping[str, Sequence[Any]] = {
        "view": cases["view"].fillna("unknown"),
        "sex": cases["sex"].fillna("unknown"),
        "age": bands,
    }
    for name, values in columns.items():
        for value in sorted(set(values)):
            yield f"{name}_{value}", np.asarray(values) == value
