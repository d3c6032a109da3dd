"""Text on pictures. FreeType draws each line anew; from letters that are kept it takes a third of that, or less."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image, ImageFont

_RIM = 2  # pixels


def write(
    picture: Image.Image, x: float, y: float, text: str, size: int, grey: int, rim: int | None = None
) -> None:
    """Write a line as ``ImageDraw.text`` does in :func:`font`, whose letters stand at whole pixels and unkerned.

    Args:
        picture: of one channel.
        x: the line's left end, pixels.
        y: its top, pixels.
        text: what is written.
        size: of the font, pixels.
        grey: of the letters.
        rim: of what is around them, so that they can be read on anything; None for nothing.
    """
    box = round(x) - _RIM, round(y) - _RIM
    for level, stroke in [(grey, 0)] if rim is None else [(rim, _RIM), (grey, 0)]:
        picture.paste(level, box, _line(text, size, stroke))


def width(text: str, size: int) -> int:
    """Return the width of a line, pixels."""
    return sum(_letter(letter, size, 0)[1] for letter in text)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font.

    Args:
        size: pixels.
    """
    from PIL import ImageFont

    return ImageFont.load_default(size)


@lru_cache(maxsize=256)  # answers differ by a hundred percentages or so
def _line(text: str, size: int, stroke: int) -> Image.Image:
    """Return how much of each pixel a line covers, with room for a rim around it."""
    from PIL import Image

    letters = [_letter(letter, size, stroke) for letter in text]
    line = np.zeros((_rows(size), sum(advance for _, advance in letters) + 4 * _RIM), np.uint8)
    place = 0
    for cell, advance in letters:
        there = line[:, place : place + cell.shape[1]]
        np.maximum(there, cell, out=there)
        place += advance
    return Image.fromarray(line)


@lru_cache(maxsize=4096)
def _letter(letter: str, size: int, stroke: int) -> tuple[np.ndarray, int]:
    """Return what a letter covers, (rows, columns) uint8, and how far from it the next one is, pixels."""
    from PIL import Image, ImageDraw

    advance = round(font(size).getlength(letter))
    cell = Image.new("L", (advance + 4 * _RIM, _rows(size)))
    start = (_RIM, _RIM + font(size).getmetrics()[0])
    ImageDraw.Draw(cell).text(start, letter, 255, font(size), anchor="ls", stroke_width=stroke)
    return np.asarray(cell), advance


def _rows(size: int) -> int:
    return sum(font(size).getmetrics()) + 2 * _RIM
