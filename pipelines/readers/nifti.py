"""NIfTI through nibabel, with the checks a stray header calls for."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.readers.geometry import corner_distance, spacing_mm
from pipelines.readers.volume import MAX_VOXELS, Volume, check_size

_MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_GRID_FIELDS = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "xyzt_units")
_GRID_FIELDS += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")
# The qform stores a rotation as three 32-bit numbers; near a half turn their rounding alone moves a corner by
# a fifth of a voxel, so only half a voxel is worth a word.
_QFORM_TOLERANCE_VOXELS = 0.5


def read_nifti(path: Path) -> Volume:
    """Read a ``.nii`` or ``.nii.gz`` file; values are scaled by the header's slope and intercept.

    Returns:
        The volume with its affine in mm, whatever unit the header counts in (none means mm).

    Raises:
        UserError: no NIfTI, damaged or cut short, not one 3-D volume of real numbers, or without a spacing.
    """
    image, pixdim = _load(path)
    if not image.header["sform_code"] and not (pixdim > 0).all():
        raise UserError(
            f"spacing must be three positive numbers in mm, got {_shown(pixdim)}; mend pixdim in the file's header"
        )
    if image.get_data_dtype().kind not in "iuf":
        raise UserError(
            f"expected one real number a voxel, got {image.get_data_dtype()}; export it as grey values"
        )
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    check_size(shape)
    try:
        _check_gzip(path)
        with np.errstate(over="ignore", invalid="ignore"):
            array = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape)
    except Exception as error:  # zlib, gzip, mmap and nibabel each have their own
        raise _damaged(error) from error
    scale = _MM_PER_UNIT[image.header.get_xyzt_units()[0]]
    affine = np.diag([scale, scale, scale, 1.0]) @ image.affine
    warnings = (
        [] if len(image.shape) == 3 else [f"axes of length one were dropped from the shape {image.shape}"]
    )
    warnings += _header_warnings(image.header, affine, pixdim * scale, scale)
    return Volume(array, affine, warnings, image.header)


def apart(header: Any) -> float:
    """Return how far apart sform and qform put a corner voxel, in the header's unit; 0 for less than half a voxel.

    It is 0 as well where the header has one of them alone.

    Raises:
        ValueError: the qform is none.
    """
    if not header["sform_code"] or not header["qform_code"]:
        return 0.0
    sform = header.get_sform()
    distance = corner_distance(sform, header.get_qform(), header.get_data_shape()[:3])
    return distance if distance > _QFORM_TOLERANCE_VOXELS * min(spacing_mm(sform)) else 0.0


def image_on_grid(data: np.ndarray, header: Any) -> Any:
    """Return ``data`` (X, Y, Z) as a nibabel image that has only affine, codes and units from ``header``."""
    import nibabel as nib

    new = type(header)()
    new.set_data_dtype(data.dtype)
    new.set_data_shape(data.shape)
    for name in _GRID_FIELDS:
        new[name] = header[name]
    new["pixdim"][:4] = header["pixdim"][:4]
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return image_class(data, None, new)


def _load(path: Path) -> tuple[Any, np.ndarray]:
    """Return the image, and pixdim (3,) as it stands: nibabel takes 1 mm where it is 0."""
    import nibabel as nib

    try:
        image = nib.load(path)
        image.header.get_xyzt_units()  # a KeyError where the header names no unit that there is
    except Exception as error:
        raise _damaged(error) from error
    if not isinstance(image, nib.Nifti1Image):
        raise UserError(f"expected a NIfTI file, got {type(image).__name__}; convert it")
    with image.file_map["image"].get_prepare_fileobj("rb") as file:
        pixdim = type(image.header).from_fileobj(file, check=False)["pixdim"][1:4]
    return image, np.asarray(pixdim, dtype=float)


def _check_gzip(path: Path) -> None:
    # nibabel stops at the last voxel; the checksum that tells of a damaged byte comes after it.
    if path.name.lower().endswith(".gz"):
        room = MAX_VOXELS * 8
        with gzip.open(path) as file:
            while room > 0 and (block := file.read(1 << 22)):
                room -= len(block)


def _damaged(error: Exception) -> UserError:
    return UserError(
        f"expected a whole NIfTI file, got one that is damaged, cut short or no NIfTI "
        f"({type(error).__name__}); copy or export it again"
    )


def _shown(numbers: np.ndarray) -> str:
    return "({})".format(", ".join(f"{number:g}" for number in numbers))


def _header_warnings(header: Any, affine: np.ndarray, stated: np.ndarray, scale: float) -> list[str]:
    if not header["sform_code"] and not header["qform_code"]:
        return [
            "the header gives no orientation (sform_code and qform_code are 0): left and right are a guess"
        ]
    spacing = np.array(spacing_mm(affine))
    if not np.allclose(np.abs(stated), spacing, rtol=0.01):
        both = f"pixdim {_shown(stated)} mm disagrees with its affine {_shown(spacing)} mm"
        return [f"the header's {both}, which was used"]
    try:
        distance = apart(header) * scale
    except ValueError:
        return ["the header's qform is unusable; its sform was used"]
    return [f"the header's sform and qform disagree by up to {distance:.3g} mm; the sform was used"] * (
        distance > 0
    )
