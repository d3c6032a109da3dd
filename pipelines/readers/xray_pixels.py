"""From what a file stores to an 8-bit picture, more is brighter, decoded no finer than needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import UserError
from pipelines.readers.xray_header import XrayHeader

if TYPE_CHECKING:
    from PIL import Image

# A large chest X-ray has 4,300 x 3,500 pixels; this bounds what a header that lies can ask for.
MAX_PIXELS = 2**26
# JPEG is decoded at a reduced scale of at least this many times the size asked for.
OVERSAMPLING = 2
NO_WINDOW = "the file names no grey-level window: its darkest and brightest 0.1% became black and white"


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded X-ray.

    Attributes:
        image: 8-bit grey, upright, more is brighter; the file's own size or a reduced scale of it.
        box: the picture within ``image`` as left, upper, right, lower, in its pixels: a reduced scale may end
            with a part of a pixel.
        header: ``rows`` and ``columns`` are those of the full size.
    """

    image: Image.Image
    box: tuple[float, float, float, float]
    header: XrayHeader


def whole(image: Image.Image, header: XrayHeader) -> Picture:
    """Return a picture at its full size."""
    return Picture(image, (0, 0, *image.size), header)


def check_size(rows: int, columns: int) -> None:
    """Refuse an image without pixels, or one so large that decoding it would fill the memory.

    Raises:
        UserError: either.
    """
    if min(rows, columns) < 1 or rows * columns > MAX_PIXELS:
        raise UserError(
            f"expected an image of at most {MAX_PIXELS:,} pixels, got {rows} rows x {columns} columns; "
            "export it again"
        )


def draft(image: Any, size: int | None) -> tuple[float, float, float, float]:
    """Let a JPEG image that was just opened be decoded at a reduced scale, at least ``OVERSAMPLING * size`` wide.

    Returns:
        The box of the picture in the reduced image, see ``Picture``.
    """
    reduced = image.draft(None, (OVERSAMPLING * size, OVERSAMPLING * size)) if size else None
    return tuple(reduced[1]) if reduced else (0, 0, *image.size)


def outer_levels(values: np.ndarray) -> tuple[float, float]:
    """Return the values that become black and white where no window is named: the 0.1% and 99.9% quantile."""
    low, high = np.quantile(values, [0.001, 0.999], method="nearest")
    return (float(low), float(high)) if low < high else (float(values.min()), float(values.max()))


def to_8_bit(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Return ``values`` as uint8, ``black`` and below as 0, ``white`` and above as 255."""
    scaled = (values.astype(float) - black) / ((white - black) or 1.0)
    return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)
