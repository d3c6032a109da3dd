"""What a training of the atrium bundle takes: memory, and time on one or two CPU cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# of bundles/atrium: a test holds them against its YAML
PIXDIM_MM = 1.0
PATCH_PIXELS = (144 * 96 + 144 * 64 + 96 * 64) / 3  # of the three planes
LABELLED_SHARE, EMPTY_SHARE = 1.0, 0.25
VAL_INTERVAL = 5

# The first made the estimate meet a training of 68 minutes on one core in bfloat16, given the second, a guess. Later
# ones take less (docs/benchmarks.md), and processors without bfloat16 instructions longer.
SECONDS_PER_TRAIN_MEGAPIXEL = 1.3
SECONDS_PER_VAL_MEGAPIXEL = 0.3
CACHED_BYTES_PER_VOXEL = 3  # image float16, label uint8
FRAMEWORK_RAM_MB = 1000


def estimate_training(
    split: Mapping[str, Sequence[Mapping[str, str]]],
    extents: Mapping[str, Sequence[float] | None],
    max_epochs: int,
) -> dict[str, Any]:
    """Estimate what a training with the default settings takes, as an upper bound.

    A volume of ``extent`` mm has ``extent / PIXDIM_MM`` slices along each of the three planes; an epoch visits at most
    ``LABELLED_SHARE`` of them, each cut to a patch. Validation sees every slice of its volumes whole, every
    ``VAL_INTERVAL`` epochs.

    Args:
        split: "train" and "val" to their cases.
        extents: case name to its size along three axes in mm; None for a case that could not be read.
        max_epochs: epochs of the training.

    Returns:
        ``slices_per_epoch``, ``cache_mb``, ``ram_mb``, ``minutes`` and ``max_epochs``.
    """
    train, val = (
        [
            [length / PIXDIM_MM for length in extents[c["case"]]]
            for c in split.get(part, [])
            if extents.get(c["case"])
        ]
        for part in ("train", "val")
    )
    voxels = {"train": sum(map(_product, train)), "val": sum(map(_product, val))}
    visited = LABELLED_SHARE * sum(map(sum, train))
    train_seconds = SECONDS_PER_TRAIN_MEGAPIXEL * visited * PATCH_PIXELS / 1e6
    val_seconds = SECONDS_PER_VAL_MEGAPIXEL * 3 * voxels["val"] / 1e6 / VAL_INTERVAL
    cache = CACHED_BYTES_PER_VOXEL * (voxels["train"] + voxels["val"]) / 1e6
    return {
        "slices_per_epoch": round(visited),
        "cache_mb": round(cache),
        "ram_mb": round(FRAMEWORK_RAM_MB + cache),
        "minutes": round(max_epochs * (train_seconds + val_seconds) / 60),
        "max_epochs": max_epochs,
    }


def _product(lengths: Sequence[float]) -> float:
    x, y, z = lengths
    return x * y * z
