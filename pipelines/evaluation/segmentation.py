"""Scores of a segmentation, case by case and over cases. Distances in mm, volumes in mL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import UserError
from pipelines.evaluation.bootstrap import defined
from pipelines.evaluation.results import estimate, summarise
from pipelines.readers.geometry import volume_ml

if TYPE_CHECKING:
    import pandas as pd

_LIMIT = 1.96  # standard deviations that hold 95% of a normal distribution


def score_case(prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """Return the scores of one predicted mask against its reference, on the grid that both share.

    ``dice`` and ``iou`` are ratios. A mask's surface is its voxels with a face neighbour outside the mask (or
    the volume); distances run between voxel centres. ``hd95_mm`` is the larger of the two directions' 95th
    percentiles, ``asd_mm`` the mean over both directions' distances together (MONAI's symmetric average
    surface distance). ``volume_error_ml`` is prediction minus reference, ``volume_error_percent`` that in
    percent of the reference.

    Both masks empty: Dice and IoU 1, distances 0. One empty: Dice and IoU 0, distances NaN. An empty
    reference has no ``volume_error_percent`` (NaN).

    Args:
        prediction: (X, Y, Z) bool.
        reference: (X, Y, Z) bool.
        spacing: (3,) mm, the distance between neighbouring voxels along each axis.

    Raises:
        UserError: the shapes differ or are not 3-D, or a spacing is not positive.

    Source: ``monai.metrics.compute_dice``, ``compute_iou``, ``get_mask_edges`` and ``get_surface_distance``.
    """
    from monai.metrics import compute_dice, compute_iou

    prediction, reference = np.asarray(prediction, dtype=bool), np.asarray(reference, dtype=bool)
    _require_one_grid(prediction, reference)
    volume, true_volume = volume_ml(prediction, spacing), volume_ml(reference, spacing)
    cropped = _crop(prediction, reference)
    hd95, asd = _surface_distances(*cropped, spacing)
    pair = [_batch(mask) for mask in cropped]
    return {
        "dice": float(compute_dice(*pair, ignore_empty=False)),
        "iou": float(compute_iou(*pair, ignore_empty=False)),
        "hd95_mm": hd95,
        "asd_mm": asd,
        "volume_ml": volume,
        "reference_volume_ml": true_volume,
        "volume_error_ml": volume - true_volume,
        "volume_error_percent": 100 * (volume / true_volume - 1) if true_volume else math.nan,
    }


def summarise_cases(cases: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the metrics of the result contract for a table of ``score_case`` rows.

    Errors of volume are averaged without their sign (``mean_absolute_…``); the signed mean is
    ``volume_bias_ml``, and ``volume_limits_lower_ml`` and ``volume_limits_upper_ml`` are the limits of
    agreement.
    """
    cases = cases.assign(
        absolute_volume_error_ml=cases["volume_error_ml"].abs(),
        absolute_volume_error_percent=cases["volume_error_percent"].abs(),
    )
    agreement = bland_altman(cases["volume_ml"], cases["reference_volume_ml"])
    return {
        **summarise(cases, {"dice": None}, ("mean", "median", "min")),
        **summarise(cases, {"iou": None, "hd95_mm": "mm", "asd_mm": "mm"}),
        **summarise(
            cases, {"volume_ml": "mL", "reference_volume_ml": "mL", "absolute_volume_error_ml": "mL"}
        ),
        **summarise(cases, {"absolute_volume_error_percent": "%"}),
        **{
            f"volume_{name}_ml": {
                "value": agreement[key],
                "ci95": agreement[f"{key}_ci95"],
                "unit": "mL",
                "cases": agreement["n"],
            }
            for name, key in (("bias", "bias"), ("limits_lower", "lower"), ("limits_upper", "upper"))
        },
    }


def bland_altman(prediction: Sequence[float], reference: Sequence[float]) -> dict[str, Any]:
    """Return the bias and the 95% limits of agreement between two measurements of the same patients.

    Args:
        prediction: (N,) any unit, one value a patient.
        reference: (N,) same unit. Pairs with a NaN are left out.

    Returns:
        ``bias`` (mean of prediction minus reference), ``lower`` and ``upper`` (bias ∓ 1.96 sd), ``sd``
        (sample standard deviation of the differences), ``n`` (pairs), and ``bias_ci95``, ``lower_ci95``,
        ``upper_ci95`` by bootstrap over patients. One pair has a bias alone: sd and limits are NaN and the
        intervals None.

    Source: Bland and Altman, Lancet 1986; 327: 307-310.
    """
    differences, _ = defined(np.asarray(prediction, dtype=float) - np.asarray(reference, dtype=float))
    statistics = {
        "bias": np.mean,
        "lower": lambda d: np.mean(d) - _LIMIT * _sd(d),
        "upper": lambda d: np.mean(d) + _LIMIT * _sd(d),
    }
    metrics = {name: estimate(differences, statistic) for name, statistic in statistics.items()}
    return {
        **{name: metric["value"] for name, metric in metrics.items()},
        **{f"{name}_ci95": metric["ci95"] for name, metric in metrics.items()},
        "sd": _sd(differences),
        "n": len(differences),
    }


def _sd(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _require_one_grid(prediction: np.ndarray, reference: np.ndarray) -> None:
    if prediction.ndim != 3 or prediction.shape != reference.shape:
        raise UserError(
            f"prediction and reference must be volumes of one shape, got {prediction.shape} and "
            f"{reference.shape}; bring the prediction back to the reference's grid (Invertd)"
        )


def _crop(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop both (X, Y, Z) masks to the box around either, one voxel wider: same scores, less work."""
    from monai.transforms.utils import generate_spatial_bounding_box

    union = (prediction | reference)[None]
    start, end = generate_spatial_bounding_box(union, margin=1, allow_smaller=True)
    box = tuple(slice(low, max(high, low + 1)) for low, high in zip(start, end, strict=True))
    return prediction[box], reference[box]


def _batch(mask: np.ndarray) -> Any:
    """Return (X, Y, Z) bool as the (1, 1, X, Y, Z) float tensor that MONAI's metrics take."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()


def _surface_distances(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]
) -> tuple[float, float]:
    """Return HD95 and the symmetric average surface distance in mm of two (X, Y, Z) masks.

    MONAI's ``compute_hausdorff_distance`` and ``compute_average_surface_distance`` are these lines with the
    surfaces found once for each, and warn of a deprecated argument that MONAI 1.6 itself passes.
    """
    from monai.metrics import get_mask_edges, get_surface_distance

    filled = bool(prediction.any()), bool(reference.any())
    if not all(filled):
        undefined = math.nan if any(filled) else 0.0
        return undefined, undefined
    surfaces = get_mask_edges(prediction, reference)
    there, back = (get_surface_distance(*pair, spacing=spacing) for pair in (surfaces, surfaces[::-1]))
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(hd95), float(np.concatenate([there, back]).mean())
