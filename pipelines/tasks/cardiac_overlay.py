"""The heart's box on its X-ray, drawn in milliseconds: an 8-bit picture with a palette of grey and three colours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's orange and sky blue, which colour-blind people tell apart; red for what needs a review
_COLOURS = ((230, 159, 0), (86, 180, 233), (255, 70, 70))
_GREYS = 256 - len(_COLOURS)
_HEART, _THORAX, _REVIEW = range(_GREYS, 256)
_TEXT, _MARGIN = 15, 6  # pixels


def overlay(picture: np.ndarray, edges: np.ndarray, result: Mapping[str, Any], case: str) -> Image.Image:
    """Return an X-ray with the heart's box, its width and height, the thorax's width and the numbers.

    Args:
        picture: (rows, columns) uint8.
        edges: (4,) or (6,) fractions of the picture's width and height.
        result: see :func:`pipelines.tasks.cardiac.cardiac_result`.
        case: stands at the top.
    """
    from PIL import Image, ImageDraw

    rows, columns = picture.shape
    lines = _lines(result, case)
    canvas = np.zeros((rows + len(lines) * (_TEXT + 4) + 2 * _MARGIN, max(columns, 360)), np.uint8)
    canvas[:rows, :columns] = picture
    image = Image.fromarray((canvas.astype(np.uint16) * (_GREYS - 1) // 255).astype(np.uint8))
    writer = ImageDraw.Draw(image)  # letters while the picture is grey, where their rims can be smooth
    for number, line in enumerate(lines):
        place = (_MARGIN, rows + _MARGIN + number * (_TEXT + 4))
        writer.text(place, line, fill=_GREYS - 1, font=_font(_TEXT))
    image.putpalette(
        [level * 255 // (_GREYS - 1) for level in range(_GREYS) for _ in "rgb"] + _flat(_COLOURS)
    )
    pen = ImageDraw.Draw(image)
    sides = np.array([columns, rows] * 2 + [columns] * 2)[: len(edges)]
    _draw_box(pen, edges * sides, rows)
    if result["review"]["needed"]:
        pen.rectangle((0, 0, columns - 1, rows - 1), outline=_REVIEW, width=4)
    return image


def _draw_box(pen: ImageDraw.ImageDraw, pixels: np.ndarray, rows: int) -> None:
    """Draw the box, arrows along its width and height and, where known, the thorax's edges and width."""
    x0, y0, x1, y1 = (round(float(v)) for v in pixels[:4])
    pen.rectangle((x0, y0, x1, y1), outline=_HEART, width=2)
    if len(pixels) > 4:
        left, right = (round(float(v)) for v in pixels[4:])
        level = min(y1 + 14, rows - 4)
        for x in (left, right):
            pen.line((x, 0.15 * rows, x, rows), fill=_THORAX, width=1)
        _measure(pen, left, right, level, _THORAX)
    _measure(pen, x0, x1, (y0 + y1) // 2, _HEART)


def _measure(pen: ImageDraw.ImageDraw, left: int, right: int, y: int, colour: int) -> None:
    """Draw a line with an arrow at both ends."""
    pen.line((left, y, right, y), fill=colour, width=2)
    for x, step in ((left, 6), (right, -6)):
        pen.polygon([(x, y), (x + step, y - 4), (x + step, y + 4)], fill=colour)


def _lines(result: Mapping[str, Any], case: str) -> list[str]:
    """Return what stands below the picture."""
    in_mm = result["width_mm"] is not None
    unit = "mm" if in_mm else "px"
    heart = f"heart {result[f'width_{unit}']:.0f} x {result[f'height_{unit}']:.0f} {unit}"
    heart += f" ({result['spacing_tag']})" if in_mm else ""
    ratio, note = result["cardiothoracic_ratio"], result["ratio_note"]
    said = "no cardiothoracic ratio" if ratio is None else f"cardiothoracic ratio {ratio:.2f}"
    lines = [case[:60], heart, f"{said} ({note})" if note else said]
    return lines + [f"review: {reason}" for reason in result["review"]["reasons"]]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _flat(colours: Any) -> list[int]:
    return [value for colour in colours for value in colour]
