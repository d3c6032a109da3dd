"""Voxel grids in world space: ``affine`` (4, 4) takes voxel indices (i, j, k, 1) to RAS+ mm, as in NIfTI."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from pipelines.errors import UserError

# ITK and DICOM count towards the patient's left and back, NIfTI towards the right and front.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING_RANGE_MM = (0.05, 50.0)
# Cosine between two axes. The error of the volume in mL, 1 - sqrt(1 - cos^2), stays below 0.01%.
MAX_SHEAR = 0.01
# A thorax takes less than 100. What is resampled to 1 mm stays within memory, whatever a header says.
MAX_LITRES = 250.0
# How far apart the corners of one grid may lie in two files, in voxels: more is another grid.
GRID_TOLERANCE_VOXELS = 0.1


def spacing_mm(affine: np.ndarray) -> tuple[float, float, float]:
    """Return the distance between voxels along each array axis in mm, from a (4, 4) affine in mm."""
    x, y, z = np.linalg.norm(np.asarray(affine, dtype=float)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def corner_distance(first: np.ndarray, second: np.ndarray, shape: Sequence[int]) -> float:
    """Return in mm how far apart two (4, 4) affines put a corner voxel of a 3-D ``shape``, at most."""
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in shape))])
    return float(np.linalg.norm(corners @ (np.asarray(first) - np.asarray(second)).T, axis=1).max())


def is_one_grid(first: np.ndarray, second: np.ndarray, shape: Sequence[int]) -> bool:
    """Tell whether two (4, 4) affines put voxels of a 3-D ``shape`` in the same places, but for rounding."""
    return corner_distance(first, second, shape) <= GRID_TOLERANCE_VOXELS * min(spacing_mm(first))


def volume_ml(mask: np.ndarray, spacing: Sequence[float]) -> float:
    """Return the volume of a mask in mL.

    Args:
        mask: (X, Y, Z) bool, or zero and non-zero.
        spacing: (3,) mm, voxel size along each array axis; the axes stand at right angles.

    Raises:
        UserError: a spacing that is not three positive numbers.
    """
    if len(spacing) != 3 or not all(math.isfinite(value) and value > 0 for value in spacing):
        raise UserError(
            f"spacing must be three positive numbers in mm, got {tuple(spacing)}; check the header of the "
            "image"
        )
    return float(np.count_nonzero(mask) * math.prod(spacing) / 1000)


def affine_from_lps(directions: np.ndarray, spacing: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return the RAS+ affine of a grid that ITK or DICOM describes.

    Args:
        directions: (3, 3) unit vectors of the array axes in LPS, one a column.
        spacing: (3,) mm.
        origin: (3,) LPS mm, the centre of voxel (0, 0, 0).

    Returns:
        (4, 4) affine, RAS+ mm.
    """
    lps = np.eye(4)
    lps[:3, :3] = np.asarray(directions, dtype=float) * np.asarray(spacing, dtype=float)
    lps[:3, 3] = origin
    return LPS_TO_RAS @ lps


def check_affine(affine: np.ndarray, shape: Sequence[int]) -> None:
    """Refuse a grid on which mm and mL would be wrong.

    Args:
        affine: (4, 4), voxel index to mm.
        shape: (3,) voxels.

    Raises:
        UserError: the affine is not finite, a spacing lies outside 0.05 to 50 mm, the volume takes more than
            ``MAX_LITRES``, or the axes are not at right angles (a sheared grid, as from a tilted gantry).
    """
    if not np.isfinite(affine).all():
        raise UserError("expected an affine of finite numbers, got NaN or infinity; mend the image's header")
    spacing = spacing_mm(affine)
    low, high = SPACING_RANGE_MM
    if not all(low <= value <= high for value in spacing):
        shown = ", ".join(f"{value:g}" for value in spacing)
        raise UserError(
            f"spacing must be three numbers from {low:g} to {high:g} mm, got ({shown}); check the header's "
            "spacing and its units"
        )
    litres = math.prod(shape) * math.prod(spacing) / 1e6
    if litres > MAX_LITRES:
        sides = " x ".join(f"{count * edge:.0f}" for count, edge in zip(shape, spacing, strict=True))
        raise UserError(
            f"expected a scan of at most {MAX_LITRES:g} litres, got {sides} mm, which are {litres:.0f}; check the "
            "header's spacing"
        )
    axes = np.asarray(affine, dtype=float)[:3, :3] / spacing
    shear = np.abs(axes.T @ axes - np.eye(3)).max()
    if shear > MAX_SHEAR:
        raise UserError(
            f"expected axes at right angles, got a sheared grid (off by "
            f"{np.degrees(np.arcsin(min(shear, 1))):.1f} degrees); the volume in mL would be wrong: "
            "resample the image to a rectangular grid"
        )


def to_ras(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn a volume so that its axes run to the right, front and head; nothing is resampled.

    All 48 ways to store a volume give one and the same array. An axis that lies halfway between two directions,
    as in a scan at 45 degrees, is no exception: rounding errors in the header do not decide where it goes.

    Args:
        array: (X, Y, Z).
        affine: (4, 4), voxel index to RAS+ mm.

    Returns:
        A contiguous copy (X', Y', Z'), its affine, and the nibabel orientation that :func:`from_ras` needs.
    """
    from nibabel import orientations as nio

    turn = nio.io_orientation(_nudged(affine))
    turned = np.array(nio.apply_orientation(array, turn), order="C")
    return turned, affine @ nio.inv_ornt_aff(turn, array.shape), turn


def from_ras(array: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Turn an (X', Y', Z') array back to where :func:`to_ras` took it from, (X, Y, Z)."""
    from nibabel import orientations as nio

    back = nio.ornt_transform(nio.axcodes2ornt("RAS"), turn)
    return np.ascontiguousarray(nio.apply_orientation(array, back))


def _nudged(affine: np.ndarray) -> np.ndarray:
    """Return ``affine`` after a small rotation of the world, which decides ties alike for all 48 grids."""
    from scipy.spatial.transform import Rotation

    nudged = np.array(affine, dtype=float)
    nudged[:3, :3] = Rotation.from_euler("xyz", (0.3, 0.5, 0.7), degrees=True).as_matrix() @ nudged[:3, :3]
    return nudged
