"""What is measured on the mask of a structure such as the left atrium, and what makes a person look at it again."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.readers.geometry import volume_ml

# From a small child's atrium to a giant one; outside, the mask or the scan's spacing is likelier to be wrong.
VOLUME_RANGE_ML = (10.0, 300.0)
# Lost when only the largest component is kept: more than crumbs means a vein or a part of the atrium came
# off.
MAX_OUTSIDE_LARGEST = 0.05
# Networks of this kind agree with an expert at a Dice of about 0.90 on patients they never saw. One network
# whose answers to a turned image agree less than that, by a margin, does not know this kind of image. The same
# holds of two networks of one recipe.
MIN_VARIANT_DICE = 0.85


def outside_largest(mask: np.ndarray) -> tuple[int, float]:
    """Return how many components a mask has, and the share of its voxels outside the largest one.

    Voxels that share a face, an edge or a corner are one component, as in MONAI's
    ``KeepLargestConnectedComponent``. An empty mask has none, and a share of 0.

    Args:
        mask: (X, Y, Z) bool, before the largest component was kept.
    """
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if not count:
        return 0, 0.0
    sizes = np.bincount(labels.ravel())[1:]
    return count, float(1 - sizes.max() / sizes.sum())


def variant_dice(variants: Sequence[np.ndarray]) -> float | None:
    """Return the mean Dice over all pairs of test-time variants, or None for fewer than two.

    Two empty masks agree: 1.

    Args:
        variants: masks (X, Y, Z) bool on one grid, one a test-time variant (a flip undone, say).
    """
    pairs = _pairwise_dice(variants)
    return float(np.mean(pairs)) if pairs else None


def disagreement(models: Sequence[np.ndarray], voxel_ml: float) -> dict[str, Any]:
    """Return how far the answers of an ensemble's models lie apart.

    Args:
        models: masks (X, Y, Z) bool on one grid, one a model, at least two.
        voxel_ml: the volume of a voxel of that grid.

    Returns:
        ``count``, ``lowest_dice`` between two of them (1 where both are empty), and ``volume_sd_ml``, the standard
        deviation of their volumes.
    """
    volumes = [np.count_nonzero(mask) * voxel_ml for mask in models]
    return {
        "count": len(models),
        "lowest_dice": round(min(_pairwise_dice(models)), 4),
        "volume_sd_ml": round(float(np.std(volumes, ddof=1)), 2),
    }


def touches_border(mask: np.ndarray) -> bool:
    """Tell whether a mask (X, Y, Z) has a voxel in the first or last plane of any axis."""
    return any(mask.take(index, axis=axis).any() for axis in range(mask.ndim) for index in (0, -1))


def review_reasons(
    mask: np.ndarray,
    spacing: Sequence[float],
    components: int = 1,
    outside: float = 0.0,
    agreement: float | None = None,
    models: Mapping[str, Any] | None = None,
    structure: str = "left atrium",
    volume_range_ml: Sequence[float] = VOLUME_RANGE_ML,
) -> list[str]:
    """Say why a person should look at a mask before its volume is used; an empty list means no reason.

    Args:
        mask: (X, Y, Z) bool, the answer, with only its largest component.
        spacing: (3,) mm.
        components: their number before the largest was kept.
        outside: share of the voxels outside the largest one, 0 to 1.
        agreement: mean Dice between the test-time variants, or None where there was one alone.
        models: see :func:`disagreement`; None for one model.
        structure: what the mask is of.
        volume_range_ml: the volumes that it may have.
    """
    reasons = []
    if not mask.any():
        reasons.append(f"empty: no {structure} was found")
    if touches_border(mask):
        reasons.append("touches the border of the volume: a part of it may lie outside")
    if outside > MAX_OUTSIDE_LARGEST:
        reasons.append(f"{components} components: {outside:.0%} of the voxels lay outside the largest one")
    volume, (low, high) = volume_ml(mask, spacing), volume_range_ml
    if mask.any() and not low <= volume <= high:
        reasons.append(f"volume of {volume:.1f} mL outside {low:g} to {high:g} mL")
    if agreement is not None and agreement < MIN_VARIANT_DICE:
        reasons.append(
            f"test-time disagreement: Dice {agreement:.2f} between variants, below {MIN_VARIANT_DICE}"
        )
    if models and (lowest := models["lowest_dice"]) < MIN_VARIANT_DICE:
        reasons.append(
            f"disagreement of the {models['count']} models: Dice {lowest:.2f} between two, below {MIN_VARIANT_DICE}"
        )
    return reasons


def atrium_result(
    mask: np.ndarray,
    spacing: Sequence[float],
    unfiltered: np.ndarray | None = None,
    variants: Sequence[np.ndarray] = (),
    models: Sequence[np.ndarray] = (),
    voxel_ml: float = 0.0,
    structure: str = "left atrium",
    volume_range_ml: Sequence[float] = VOLUME_RANGE_ML,
) -> dict[str, Any]:
    """Return the ``result`` of ``result.json`` for one case.

    Args:
        mask: (X, Y, Z) bool, the answer on the input's own grid.
        spacing: (3,) mm.
        unfiltered: (X, Y, Z) bool, before the largest component was kept; ``mask`` itself by default.
        variants: masks (X, Y, Z) bool, one a test-time variant.
        models: masks (X, Y, Z) bool, one a model.
        voxel_ml: the volume of a voxel of ``models``.
        structure: what the mask is of; it names the volume.
        volume_range_ml: the volumes that it may have.

    Returns:
        ``left_atrium_volume_ml``, ``spacing_mm``, ``components``, ``outside_largest`` (share), ``test_time_dice``
        (None without variants), of several models ``models`` (see :func:`disagreement`), and ``review``
        (``needed``, ``reasons``).

    Raises:
        UserError: a spacing that is not three positive numbers.
    """
    components, outside = outside_largest(mask if unfiltered is None else unfiltered)
    agreement = variant_dice(variants)
    apart = disagreement(models, voxel_ml) if len(models) > 1 else None
    reasons = review_reasons(mask, spacing, components, outside, agreement, apart, structure, volume_range_ml)
    return {
        f"{structure.replace(' ', '_')}_volume_ml": round(volume_ml(mask, spacing), 2),
        "spacing_mm": [round(float(value), 4) for value in spacing],
        "components": components,
        "outside_largest": round(outside, 4),
        "test_time_dice": None if agreement is None else round(agreement, 4),
        **({"models": apart} if apart else {}),
        "review": {"needed": bool(reasons), "reasons": reasons},
    }


def _pairwise_dice(masks: Sequence[np.ndarray]) -> list[float]:
    return [_dice(one, other) for one, other in itertools.combinations(masks, 2)]


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(np.logical_and(one, other)) / total if total else 1.0
