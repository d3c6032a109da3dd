"""What can be wrong with one NIfTI file, told from its raw header and its pixels.

nibabel mends bad headers in silence (a zero spacing becomes 1 mm), so a header is read here as it stands.
Terms are the NIfTI-1 standard's (https://nifti.nimh.nih.gov/nifti-1): pixdim, sform, qform.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.checks.report import Finding
from pipelines.errors import UserError
from pipelines.readers.geometry import check_affine, spacing_mm
from pipelines.readers.nifti import apart

if TYPE_CHECKING:
    import nibabel as nib
    import numpy as np

AFFINE_TOLERANCE_MM = 1e-3
SPACING_TOLERANCE = 0.01
OTHER_UNITS = {1: "metres", 3: "micrometres"}  # xyzt_units, the three lowest bits; 0 is unknown, 2 mm
FRESH = "get a fresh copy of the file"


def read_header(path: str | Path) -> nib.Nifti1Header:
    """Return the raw header of a ``.nii`` or ``.nii.gz`` file, NIfTI-1 or -2, unchecked and unmended.

    Raises:
        UserError: the file is empty, not gzip where its name says so, cut off in the header, or not a NIfTI.
    """
    import nibabel as nib

    head = _read(path, 540)
    if not head:
        raise UserError("is empty (0 bytes)")
    for kind, size in ((nib.Nifti1Header, 348), (nib.Nifti2Header, 540)):
        if (
            size in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
            and len(head) >= size
        ):
            header = kind(head[:size], check=False)
            if header["magic"].item().startswith(b"n+"):
                if header["pixdim"][0] not in (
                    -1,
                    1,
                ):  # "qfac"; the standard reads 0 as 1, nibabel refuses it
                    header["pixdim"][0] = 1
                return header
    raise UserError(f"is not a NIfTI: expected its header, the file starts with {head[:8]!r}")


def read_pixels(path: str | Path, header: nib.Nifti1Header) -> np.ndarray:
    """Return the volume in the header's shape, scaled by its slope and intercept; gzip is verified.

    Raises:
        UserError: the file is truncated or corrupt.
    """
    raw = _read(path, -1)
    if len(raw) < (promised := promised_bytes(header)):
        raise UserError(f"is truncated: its header promises {promised} bytes, it holds {len(raw)}")
    return header.data_from_fileobj(io.BytesIO(raw))


def promised_bytes(header: nib.Nifti1Header) -> int:
    """Return how many bytes, header included, the uncompressed file must hold at least."""
    return (
        int(header.get_data_offset()) + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
    )


def gzip_trailer(path: str | Path) -> tuple[int, int] | None:
    """Return (CRC-32, size modulo 2^32) of the content as the last 8 bytes state it; None for ``.nii``."""
    if not str(path).endswith(".gz") or Path(path).stat().st_size < 8:
        return None
    with open(path, "rb") as file:
        file.seek(-8, io.SEEK_END)
        return int.from_bytes(file.read(4), "little"), int.from_bytes(file.read(4), "little")


def looks_truncated(path: str | Path, header: nib.Nifti1Header) -> bool:
    """Return whether the file's size belies its header, without decoding; files in several members do too."""
    if trailer := gzip_trailer(path):
        return trailer[1] != promised_bytes(header) % 2**32
    return Path(path).stat().st_size < promised_bytes(header)


def check_header(header: nib.Nifti1Header) -> Iterator[Finding]:
    """Yield what is wrong with a header: dimensions, datatype, spacing, affine; ``case`` is left None."""
    shape = header.get_data_shape()
    if len(shape) != 3:
        remedy = "store one 3-D volume a file, without a trailing axis"
        yield Finding("error", "dimensions", None, f"has {len(shape)} dimensions {shape}, expected 3", remedy)
    elif min(shape) < 1:
        yield Finding("error", "dimensions", None, f"holds no voxel: its shape is {shape}", FRESH)
    elif min(shape) < 2:
        message = f"is a single slice: its shape is {shape}"
        yield Finding("error", "dimensions", None, message, "give the whole volume")
    if int(header["datatype"]) not in _scalar_codes():
        message = f"has datatype code {int(header['datatype'])}, expected whole or floating-point numbers"
        yield Finding("error", "datatype", None, message, "convert it to int16 or float32")
    if unit := OTHER_UNITS.get(int(header["xyzt_units"]) % 8):
        yield Finding("warning", "spacing", None, f"states its spacing in {unit}; it is taken as mm", None)
    pixdim = [float(value) for value in header["pixdim"][1:4]]
    if not all(math.isfinite(value) and value > 0 for value in pixdim):
        message = f"spacing must be three positive numbers in mm, got {_numbers(pixdim)}"
        yield Finding("error", "spacing", None, message, "mend pixdim in its header")
    elif len(shape) == 3:
        yield from _check_affine(header, pixdim)


def affine_of(header: nib.Nifti1Header) -> np.ndarray:
    """Return the (4, 4) voxel-to-mm matrix a reader uses: sform, else qform, else spacing alone."""
    return header.get_best_affine()


def _check_affine(header: nib.Nifti1Header, pixdim: list[float]) -> Iterator[Finding]:
    import numpy as np

    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if not sform and not qform:
        message = "has neither sform nor qform: where the patient's left and head are is a guess"
        yield Finding("warning", "affine", None, message, "convert it again from its DICOM series")
    try:
        affine = affine_of(header)
        usable = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9
        distance = apart(header)
    except ValueError as error:  # nibabel's HeaderDataError is one
        yield Finding("error", "affine", None, f"has an unusable qform ({error})", FRESH)
        return
    if not usable:
        message = f"has a singular or non-finite affine, its rows {_numbers(affine[:3].ravel())}"
        yield Finding("error", "affine", None, message, "mend its sform")
        return
    try:
        check_affine(affine, header.get_data_shape())
    except UserError as error:  # what prediction refuses gives wrong mm and mL in a training as well
        message, _, remedy = str(error).rpartition("; ")
        yield Finding("error", "affine", None, message, remedy)
        return
    spacing = spacing_mm(affine)
    if not np.allclose(spacing, pixdim, rtol=SPACING_TOLERANCE, atol=0):
        message = f"pixdim says {_numbers(pixdim)} mm, the affine {_numbers(spacing)} mm, which counts"
        yield Finding("warning", "affine", None, message, "mend the one that is wrong")
    elif distance:
        message = f"sform and qform disagree by up to {distance:.3g} mm; the sform counts"
        yield Finding("warning", "affine", None, message, "copy the right one onto the other")


def _scalar_codes() -> set[int]:
    import nibabel as nib

    codes = nib.nifti1.data_type_codes
    return {int(code) for code in codes.value_set("code") if code and codes.dtype[code].kind in "iuf"}


def _read(path: str | Path, size: int) -> bytes:
    """Read the first ``size`` bytes, or all (-1), of what the file holds uncompressed."""
    opener = gzip.open if str(path).endswith(".gz") else open
    try:
        if size < 0 and opener is gzip.open:
            return gzip.decompress(Path(path).read_bytes())  # one call: several times faster than reading on
        with opener(path, "rb") as file:
            return file.read(size)
    except EOFError:
        raise UserError("is truncated: its gzip stream breaks off") from None
    except zlib.error as error:
        raise UserError(f"is corrupt: its gzip stream does not decode ({error})") from None
    except gzip.BadGzipFile as error:
        raise UserError(f"is corrupt or not gzip, though its name says so ({error})") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from None


def _numbers(values: object) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
