"""Scores of a box against its reference, case by case and over cases, and of the ratio that follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.evaluation.results import estimate, summarise
from pipelines.evaluation.segmentation import bland_altman

if TYPE_CHECKING:
    import pandas as pd

EDGES = ("x0", "y0", "x1", "y1")
SIZES = ("width", "height")
IOU_LEVELS = (0.5, 0.75, 0.9)
CARDIOMEGALY = 0.5  # a cardiothoracic ratio above it, in a PA image of an adult


def box_iou(box: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes x0, y0, x1, y1, in any one unit; 0 where both are empty."""
    one, two = np.asarray(box, float)[:4], np.asarray(other, float)[:4]
    inside = np.clip(np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2]), 0, None).prod()
    union = (one[2:] - one[:2]).prod() + (two[2:] - two[:2]).prod() - inside
    return float(inside / union) if union > 0 else 0.0


def score_box(
    prediction: Sequence[float],
    reference: Sequence[float],
    size: tuple[int, int],
    spacing: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Return the scores of one box.

    Args:
        prediction: x0, y0, x1, y1 (and anything behind) as fractions of the image's width and height.
        reference: likewise.
        size: rows and columns of the original image.
        spacing: mm between rows, and between columns; None where unknown.

    Returns:
        ``iou``; ``error_<edge>_px``, ``error_width_px`` and ``error_height_px``, prediction minus reference in pixels
        of the original image; ``centre_shift_px``, the distance of the centres; the same ending in ``_mm``, NaN where
        the spacing is unknown.
    """
    error = np.asarray(prediction, float)[:4] - np.asarray(reference, float)[:4]
    rows, columns = size
    down, right = spacing or (math.nan, math.nan)
    scores = {"iou": box_iou(prediction, reference)}
    for unit, scale in (("px", np.array([columns, rows])), ("mm", np.array([columns * right, rows * down]))):
        scaled = error * np.tile(scale, 2)
        extent = scaled[2:] - scaled[:2]
        scores |= {f"error_{name}_{unit}": float(v) for name, v in zip(EDGES, scaled, strict=True)}
        scores |= {f"error_{name}_{unit}": float(v) for name, v in zip(SIZES, extent, strict=True)}
        scores[f"centre_shift_{unit}"] = float(np.hypot(*(scaled[2:] + scaled[:2]) / 2))
    return scores


def edges_ratio(edges: Sequence[float]) -> float:
    """Return the cardiothoracic ratio of edges x0, y0, x1, y1, thorax x0, thorax x1: heart's by thorax's width.

    NaN where the thorax is not among them, unknown or empty.
    """
    if len(edges) < 6 or not edges[5] > edges[4]:
        return math.nan
    return float((edges[2] - edges[0]) / (edges[5] - edges[4]))


def summarise_boxes(cases: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the metrics of the result contract for a table of :func:`score_box` rows.

    Args:
        cases: also ``baseline_<score>`` of a constant box where there is one, and ``view``, ``ratio`` and
            ``reference_ratio`` where the ratio was learnt.

    ``mae_<edge>_px`` is the mean absolute error of an edge, of the width or of the height, ``bias_width_px`` the mean
    of prediction minus reference, ``centre_shift_px`` the mean distance of the centres; the same in mm of those cases
    whose spacing is known.
    """
    metrics = {**summarise(cases, {"iou": None}, ("mean", "median", "min")), **_shares(cases, "iou")}
    metrics |= _errors(cases, "")
    if "baseline_iou" in cases:
        metrics |= {"baseline_mean_iou": estimate(cases["baseline_iou"])}
        metrics |= _shares(cases, "baseline_iou")
        metrics["gain_over_baseline_iou"] = estimate(cases["iou"] - cases["baseline_iou"])
        metrics |= _errors(cases, "baseline_")
    if "ratio" in cases:
        metrics |= summarise_ratio(cases)
    return metrics


def _shares(cases: pd.DataFrame, column: str) -> dict[str, dict[str, Any]]:
    return {f"{column}_above_{level}": estimate(cases[column] > level) for level in IOU_LEVELS}


def _errors(cases: pd.DataFrame, prefix: str) -> dict[str, dict[str, Any]]:
    metrics = {}
    for unit in ("px", "mm"):
        for name in (*EDGES, *SIZES):
            errors = cases[f"{prefix}error_{name}_{unit}"]
            metrics[f"{prefix}mae_{name}_{unit}"] = estimate(errors.abs(), unit=unit)
            if name in SIZES and not prefix:
                metrics[f"bias_{name}_{unit}"] = estimate(errors, unit=unit)
        shift = estimate(cases[f"{prefix}centre_shift_{unit}"], unit=unit)
        metrics[f"{prefix}centre_shift_{unit}"] = shift
    # where no spacing is known there is nothing to say in mm
    return {name: metric for name, metric in metrics.items() if metric["cases"]}


def ratio_counts(views: pd.Series) -> pd.Series:
    """Return which images' ratio counts: that of PA ones, since AP magnifies the heart; of all if no view is known.

    Args:
        views: of one evaluation; unknown is "" or, in a table that was read from a file, missing.
    """
    return (views == "PA") | _unknown(views).all()


def _unknown(views: pd.Series) -> pd.Series:
    return views.isna() | (views == "")


def ratio_cases(cases: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose ratio can be compared: that :func:`ratio_counts`, and ratio and reference are known."""
    return cases[ratio_counts(cases["view"])].dropna(subset=["ratio", "reference_ratio"])


def summarise_ratio(cases: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return how the cardiothoracic ratio agrees with the reference, and how well it tells cardiomegaly.

    Images are left out unless they are PA. Where the view of none is known, all count and
    ``ratio_cases_of_unknown_view`` is their number; it is 0 otherwise. The mean absolute error is that of the ratio
    itself, not percent of it.

    Args:
        cases: ``ratio``, ``reference_ratio`` (NaN where unknown) and ``view`` ("" where unknown).
    """
    pairs = ratio_cases(cases)
    ratio, reference = pairs["ratio"].to_numpy(float), pairs["reference_ratio"].to_numpy(float)
    agreement = bland_altman(ratio, reference)
    shares = {
        "cardiomegaly_sensitivity": reference > CARDIOMEGALY,
        "cardiomegaly_specificity": reference <= CARDIOMEGALY,
    }
    right = (ratio > CARDIOMEGALY) == (reference > CARDIOMEGALY)
    unknown = int(_unknown(pairs["view"]).sum())
    return {
        "ratio_mae": estimate(np.abs(ratio - reference)),
        **{
            f"ratio_{name}": {
                "value": agreement[key],
                "ci95": agreement[f"{key}_ci95"],
                "unit": None,
                "cases": agreement["n"],
            }
            for name, key in (("bias", "bias"), ("limits_lower", "lower"), ("limits_upper", "upper"))
        },
        **{name: estimate(np.where(chosen, right, math.nan)) for name, chosen in shares.items()},
        "ratio_cases_of_unknown_view": {"value": unknown, "ci95": None, "unit": "cases", "cases": len(pairs)},
    }
