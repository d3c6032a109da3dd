"""The metrics of a classification over cases, with intervals by patient, and the same by view, sex and age."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.checks.xray import age_band
from pipelines.evaluation import classification as scores
from pipelines.evaluation.results import estimate

if TYPE_CHECKING:
    import pandas as pd

Metrics = dict[str, dict[str, Any]]
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
    fitted_here = "cross_fitted" in cases
    calibrated = "cross_fitted" if fitted_here else "probability"
    metrics = {
        **_of(cases, groups, "probability", auroc=scores.auroc, average_precision=scores.average_precision),
        **_of(cases, groups, calibrated, brier=scores.brier, calibration_error=scores.calibration_error),
        **_of(cases, groups, "uncalibrated", brier_uncalibrated=scores.brier),
        **_of(cases, groups, "uncalibrated", calibration_error_uncalibrated=scores.calibration_error),
    }
    for point in scores.OPERATING_POINTS:
        metrics |= _decisions(cases, groups, point)
    if fitted_here:
        metrics = {name: {**metric, **_note(name)} for name, metric in metrics.items()}
    return {**metrics, **_header_only(cases, groups), **_places(cases, groups), **_by_part(cases, groups)}


def _of(
    cases: pd.DataFrame, groups: Sequence[Hashable], score: str, **statistics: Callable[..., float]
) -> Metrics:
    """Return what each statistic of (labels, column ``score``) is over ``cases``."""
    rows = cases[["label", score]].to_numpy(float)
    return {
        name: estimate(rows, lambda r, s=statistic: s(r[:, 0], r[:, 1]), groups=groups)
        for name, statistic in statistics.items()
    }


def _decisions(cases: pd.DataFrame, groups: Sequence[Hashable], point: str, suffix: str = "") -> Metrics:
    column = f"decision_{point}"
    if column not in cases:
        return {}
    statistics = {
        f"sensitivity_{point}{suffix}": scores.sensitivity,
        f"specificity_{point}{suffix}": scores.specificity,
    }
    return _of(cases, groups, column, **statistics)


def _note(name: str) -> dict[str, str]:
    if name.startswith(("sensitivity", "specificity")):
        return {"note": "the threshold was chosen on these very cases"}
    if name in ("brier", "calibration_error"):
        return {"note": "the temperature was fitted on the other four fifths of these cases"}
    return {}


def _header_only(cases: pd.DataFrame, groups: Sequence[Hashable]) -> Metrics:
    if "header_only" not in cases:
        return {}
    rows = cases[["label", "probability", "header_only"]].to_numpy(float)
    gain = estimate(
        rows, lambda r: scores.auroc(r[:, 0], r[:, 1]) - scores.auroc(r[:, 0], r[:, 2]), groups=groups
    )
    return {
        **_of(cases, groups, "header_only", auroc_header_only=scores.auroc),
        "auroc_gain_over_header": gain,
    }


def _places(cases: pd.DataFrame, groups: Sequence[Hashable]) -> Metrics:
    """Return how the heat maps of positives with boxes agree with them."""
    if "pointing" not in cases or not cases["pointing"].notna().any():
        return {}
    names = {"pointing_game": "pointing", "pointing_game_by_chance": "box_share", "mean_heat_map_iou": "iou"}
    return {name: estimate(cases[column], groups=groups) for name, column in names.items()}


def _by_part(cases: pd.DataFrame, groups: Sequence[Hashable]) -> Metrics:
    metrics: Metrics = {}
    for name, chosen in parts(cases):
        part, of = cases[chosen], np.asarray(groups)[chosen]
        if min((part["label"] > 0).sum(), (part["label"] <= 0).sum()) >= _FEWEST:
            metrics |= _of(part, of, "probability", **{f"auroc_{name}": scores.auroc})
            metrics |= _decisions(part, of, "balanced", f"_{name}")
    return metrics


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
