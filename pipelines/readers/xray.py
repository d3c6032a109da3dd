"""One chest X-ray for every format: ``find_images`` lists, ``read_xray`` reads, ``read_xray_reduced`` reads small."""

from __future__ import annotations

import io
import os
import warnings
from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.errors import UserError
from pipelines.readers.inputs import READS_IMAGES, ImageInput, find_images
from pipelines.readers.xray_header import XrayHeader
from pipelines.readers.xray_pixels import Picture

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "ImageInput",
    "Xray",
    "XrayHeader",
    "find_images",
    "read_xray",
    "read_xray_reduced",
    "read_xray_shown",
]

# Of a real chest X-ray, 98% of the pixels spread over far more grey levels than this.
_MIN_CONTRAST = 40


@dataclass(frozen=True, eq=False)
class Xray:
    """A chest X-ray.

    Attributes:
        pixels: (rows, columns) uint8, more is brighter, upright as in the file; not constant.
        header: view, age, sex, spacing, the file's own size and the warnings.
    """

    pixels: np.ndarray
    header: XrayHeader


def read_xray(path: str | os.PathLike[str]) -> Xray:
    """Read an X-ray at its own size from DICOM, PNG or JPEG; the content decides which, not the name.

    Raises:
        UserError: no such image, or a damaged one; for DICOM see ``xray_dicom.read_dicom_xray``, for the others
            ``xray_photo.read_photo``; an image of one single value.
    """
    return _read(Path(path), None)[0]


def read_xray_reduced(path: str | os.PathLike[str], size: int) -> Xray:
    """Read an X-ray as networks get it: ``pixels`` (size, size) uint8, to be divided by 255.

    Training and prediction both call this and nothing else, so they agree exactly. The picture is resized with
    Pillow's bilinear filter, which is anti-aliased, whatever its aspect ratio. JPEG Baseline is decoded at the
    smallest scale (1, 1/2, 1/4, 1/8) that is at least twice ``size``. Against a full decode and the same filter
    this changed 160 real X-rays of 1024 x 1024 at size 224 by 0.19 of 255 grey levels on average (0.23 in the
    worst image), a single pixel by 11 at most and 0.2% of them by more than 3; X-rays of 512 x 512 not at all.
    scikit-image's anti-aliased resize of the full decode differs by 0.34 on average.

    Raises:
        UserError: as ``read_xray``.
    """
    return _read(Path(path), size)[0]


def read_xray_shown(path: str | os.PathLike[str], size: int, shown: int = 512) -> tuple[Xray, np.ndarray]:
    """Read an X-ray as ``read_xray_reduced`` does, and from the same decode a picture of it for people.

    Returns:
        the X-ray, and (rows, columns) uint8 of the file's own aspect ratio, the longer side ``shown`` pixels.

    Raises:
        UserError: as ``read_xray``.
    """
    return _read(Path(path), size, shown)


def _read(path: Path, size: int | None, shown: int = 0) -> tuple[Xray, np.ndarray]:
    from PIL import Image

    try:
        # pydicom's warnings quote values of the header, and those may name the patient.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = _opened(path, size)
        return _checked(picture, size), _shown(picture, shown)
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from error


def _opened(path: Path, size: int | None) -> Picture:
    try:
        with open(path, "rb") as file:
            start = file.read(132)
            file.seek(0)
            # At once: pydicom's many small reads take longer from a file.
            content = io.BytesIO(file.read() if _is_known(start) else b"")
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from error
    if start[128:] == b"DICM":
        from pipelines.readers.xray_dicom import read_dicom_xray

        return read_dicom_xray(content, size)
    if _is_known(start):
        from pipelines.readers.xray_photo import read_photo

        return read_photo(content, size)
    what = "an empty file" if not start else "a web page" if start.lstrip()[:1] == b"<" else "something else"
    raise UserError(f"expected {READS_IMAGES}, got {what}; download or export it again")


def _is_known(start: bytes) -> bool:
    return start[128:] == b"DICM" or start.startswith((b"\x89PNG\r\n", b"\xff\xd8\xff"))


def _checked(picture: Picture, size: int | None) -> Xray:
    from PIL import Image

    image, header = picture.image, picture.header
    notes = list(header.warnings)
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=picture.box)
        if min(header.rows, header.columns) < size:
            notes.append(f"upscaled: {header.rows} rows x {header.columns} columns became {size} x {size}")
    counts = image.histogram()
    total = image.width * image.height
    if max(counts) == total:
        raise UserError("expected an image, got one value in every pixel; export it again")
    below = list(accumulate(counts))
    low, high = bisect_left(below, 0.01 * total), bisect_left(below, 0.99 * total)
    if high - low < _MIN_CONTRAST:
        notes.append("hardly any contrast")
    if counts[0] + counts[255] > 0.5 * total:
        notes.append("more than half of the pixels are black or white")
    return Xray(_array(image), replace(header, warnings=tuple(notes)))


def _shown(picture: Picture, longest: int) -> np.ndarray:
    """Return the picture with its longer side resized to ``longest``; nothing of it for 0."""
    from PIL import Image

    if not longest:
        return np.zeros((0, 0), np.uint8)
    rows, columns = picture.header.rows, picture.header.columns
    scale = longest / max(rows, columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return _array(picture.image.resize(size, Image.Resampling.BILINEAR, box=picture.box))


def _array(image: Image.Image) -> np.ndarray:
    # np.array(image) takes three times as long
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width).copy()
