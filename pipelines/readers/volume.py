"""One volume for every format: ``find_inputs`` lists, ``read_volume`` reads, ``save_mask`` answers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import UserError
from pipelines.files import atomic_path
from pipelines.readers.geometry import check_affine, spacing_mm, to_ras
from pipelines.readers.inputs import VolumeInput, find_inputs

if TYPE_CHECKING:
    from monai.data import MetaTensor

__all__ = ["Volume", "VolumeInput", "find_inputs", "read_volume", "save_mask"]

# 2 GB as float32: some ten times the largest cardiac scan, and a bound for headers and archives that lie.
MAX_VOXELS = 2**29


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan on its own grid, whatever file it came from.

    Attributes:
        array: (X, Y, Z) float32, finite and not constant, in the file's axis order.
        affine: (4, 4) float64, voxel index to RAS+ mm; its axes are at right angles.
        warnings: what a person should know about the file; never a value from its header that names the
        patient. header: the NIfTI header that the mask's geometry is taken from; None where the input was no
        NIfTI.
    """

    array: np.ndarray
    affine: np.ndarray
    warnings: list[str] = field(default_factory=list)
    header: Any = None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The distance between voxels along each array axis in mm."""
        return spacing_mm(self.affine)

    def in_ras(self) -> tuple[MetaTensor, np.ndarray]:
        """Return the image as transforms take it, the same array for all 48 ways to store a volume.

        Returns:
            The image (1, X', Y', Z'), axes to the right, front and head; and what ``from_ras`` needs to turn back.
        """
        import torch
        from monai.data import MetaTensor

        array, affine, turn = to_ras(self.array, self.affine)
        return MetaTensor(torch.from_numpy(array)[None], affine=torch.from_numpy(affine)), turn


def read_volume(item: VolumeInput) -> Volume:
    """Read one input of ``find_inputs``.

    Voxels that are NaN or infinite take the lowest finite value, the background of an MRI, with a warning. A
    fourth axis of length one is dropped with a warning.

    Raises:
        UserError: the file is no such image, damaged or cut short; it is not one 3-D volume of numbers; its
            grid makes mL wrong or is too large (see ``check_affine``); it holds one or two values alone, or more than
            ``MAX_VOXELS``. For DICOM see ``pipelines.readers.dicom``.
    """
    try:
        if item.problem:
            raise UserError(item.problem)
        return _checked(_read(item))
    except UserError as error:
        raise UserError(f"{item.path.name}: {error}") from error


def save_mask(path: str | os.PathLike[str], mask: np.ndarray, volume: Volume) -> None:
    """Write a mask on the grid of ``volume`` as NIfTI, whole or not at all.

    Args:
        path: a ``.nii.gz`` file.
        mask: (X, Y, Z), same shape as ``volume.array``; stored as uint8, non-zero is 1.
        volume: for a NIfTI input its sform, qform, their codes and units are kept as they stand. Nothing else
            of a header is: free text may hold a patient's name.

    Raises:
        ValueError: the shapes differ.
    """
    import nibabel as nib

    if mask.shape != volume.array.shape:
        raise ValueError(f"mask must have the volume's shape {volume.array.shape}, got {mask.shape}")
    data = (np.asarray(mask) != 0).astype(np.uint8)
    if volume.header is None:
        image = nib.Nifti1Image(data, volume.affine)
        image.set_qform(volume.affine, code="scanner")
        image.set_sform(volume.affine, code="scanner")
        image.header.set_xyzt_units("mm")
    else:
        from pipelines.readers.nifti import image_on_grid

        image = image_on_grid(data, volume.header)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


def check_size(shape: tuple[int, ...]) -> None:
    """Refuse a grid that is no 3-D volume or too large, before its voxels are read.

    Raises:
        UserError: fewer or more than three axes, an axis shorter than two, or more than ``MAX_VOXELS``.
    """
    if len(shape) != 3 or min(shape) < 2:
        raise UserError(
            f"expected one 3-D volume of at least 2 x 2 x 2 voxels, got the shape {tuple(map(int, shape))}; "
            "give a single stack of slices (of a time series, one time point)"
        )
    if np.prod(shape, dtype=float) > MAX_VOXELS:
        raise UserError(
            f"expected at most {MAX_VOXELS:,} voxels, got the shape {tuple(map(int, shape))}; check the "
            "header"
        )


def _read(item: VolumeInput) -> Volume:
    # Each format's library is loaded only when a file needs it: ITK alone takes seconds.
    if item.kind == "nifti":
        from pipelines.readers.nifti import read_nifti

        return read_nifti(item.path)
    if item.kind in ("nrrd", "metaimage"):
        from pipelines.readers.itk_image import read_itk

        return read_itk(item.path)
    from pipelines.readers.dicom import read_dicom

    return read_dicom(item.path)


def _checked(volume: Volume) -> Volume:
    check_size(volume.array.shape)
    check_affine(volume.affine, volume.array.shape)
    array = np.ascontiguousarray(volume.array, dtype=np.float32)
    finite = np.isfinite(array)
    bad = array.size - int(finite.sum())
    lowest, highest = (
        array.min(where=finite, initial=np.inf),
        array.max(where=finite, initial=-np.inf),
    )
    if lowest == highest or bad == array.size:
        raise UserError("expected an image, got one value in every voxel; export it again")
    if not ((array > lowest) & (array < highest)).any():
        raise UserError(
            f"expected an image, got {lowest:g} and {highest:g} alone, as in a mask; give the image that it was "
            "drawn on"
        )
    warnings = list(volume.warnings)
    if bad:
        warnings.append(f"{bad} voxels were NaN or infinite and were set to the lowest value")
        array = np.where(finite, array, lowest)
    return replace(volume, array=array, affine=np.asarray(volume.affine, dtype=float), warnings=warnings)
