"""NIfTI through nibabel, with the checks a stray header calls for."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.readers.geometry import spacing_mm
from pipelines.readers.volume import MAX_VOXELS, Volume, check_size

_MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_GRID_FIELDS = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "xyzt_units")
_GRID_FIELDS += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")


def read_nifti(path: Path) -> Volume:
    """Read a ``.nii`` or ``.nii.gz`` file; values are scaled by the header's slope and intercept.

    Returns:
        The volume with its affine in mm, whatever unit the header counts in (none means mm).

    Raises:
        UserError: no NIfTI, damaged or cut short, or not one 3-D volume of real numbers.
    """
    image = _load(path)
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
    return Volume(array, affine, warnings + _header_warnings(image.header, affine, scale), image.header)


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


def _load(path: Path) -> Any:
    import nibabel as nib

    try:
        image = nib.load(path)
        image.header.get_xyzt_units()  # a KeyError where the header names no unit that there is
    except Exception as error:
        raise _damaged(error) from error
    if not isinstance(image, nib.Nifti1Image):
        raise UserError(f"expected a NIfTI file, got {type(image).__name__}; convert it")
    return image


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


def _header_warnings(header: Any, affine: np.ndarray, scale: float) -> list[str]:
    if not header["sform_code"] and not header["qform_code"]:
        return [
            "the header gives no orientation (sform_code and qform_code are 0): left and right are a guess"
        ]
    stated = np.abs(np.asarray(header["pixdim"][1:4], dtype=float)) * scale
    spacing = np.array(spacing_mm(affine))
    if np.allclose(stated, spacing, rtol=0.01):
        return []
    shown = ["({})".format(", ".join(f"{value:g}" for value in values)) for values in (stated, spacing)]
    return [f"the header's pixdim {shown[0]} mm disagrees with its affine {shown[1]} mm, which was used"]
