"""A chest X-ray from PNG or JPEG, through Pillow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from pipelines.errors import UserError
from pipelines.readers.xray_header import XrayHeader, view_warnings
from pipelines.readers.xray_pixels import NO_WINDOW, Picture, check_size, draft, outer_levels, to_8_bit, whole

# Red, green and blue of a grey picture differ by rounding and by JPEG's own loss.
_MAX_COLOUR = 24
_ORIENTATION = 0x0112  # EXIF


def read_photo(file: BinaryIO, size: int | None) -> Picture:
    """Read a PNG or JPEG: grey, RGB(A) or palette, 8 or 16 bits; transparency is ignored.

    A JPEG is decoded at a reduced scale that is enough for ``size``, or in full for None. A picture that its EXIF
    orientation turns is turned, with a warning. 16-bit values are stretched as in DICOM without a window.

    Raises:
        UserError: an animation, a damaged file, one larger than ``MAX_PIXELS``.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=["PNG", "JPEG"]) as image:
            check_size(image.height, image.width)
            if getattr(image, "n_frames", 1) != 1:
                raise UserError("expected one image in the file, got an animation; give a single X-ray")
            return _picture(image, size)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError("expected an image that fits into memory, got far too many pixels") from None
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise UserError(
            f"expected a whole PNG or JPEG, got a damaged one ({type(error).__name__}); export it again"
        ) from error


def _picture(image: Any, size: int | None) -> Picture:
    from PIL import ImageOps

    header = XrayHeader(rows=image.height, columns=image.width, warnings=tuple(view_warnings(None)))
    if image.getexif().get(_ORIENTATION, 1) == 1:
        box = draft(image, size) if image.format == "JPEG" else None
        grey, notes = _grey(image)
        picture = Picture(grey, box or (0, 0, *grey.size), header)
    else:
        grey, notes = _grey(ImageOps.exif_transpose(image))
        picture = whole(grey, replace(header, rows=grey.height, columns=grey.width))
        notes = [
            *notes,
            "turned upright as the file's EXIF orientation says; pixels are those of the upright picture",
        ]
    return replace(picture, header=replace(picture.header, warnings=(*header.warnings, *notes)))


def _grey(image: Any) -> tuple[Any, list[str]]:
    """Return an 8-bit grey image and what to say about it."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        return Image.fromarray(to_8_bit(values, *outer_levels(values))), [NO_WINDOW]
    if image.mode in ("L", "LA", "1"):
        return image.convert("L"), []
    colours = image.convert("RGB")
    channels = np.asarray(colours).astype(np.int16)
    coloured = np.mean(np.ptp(channels, axis=2) > _MAX_COLOUR) > 0.01
    return colours.convert("L"), ["the picture is coloured: a chest X-ray is grey"] if coloured else []
