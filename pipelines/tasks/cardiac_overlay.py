"""A structure's box on its X-ray, drawn in milliseconds: an 8-bit picture with a palette of grey and three colours."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.tasks.writing import width, write

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

# Okabe and Ito's orange and sky blue, which colour-blind people tell apart; red for what needs a review
_COLOURS = ((230, 159, 0), (86, 180, 233), (255, 70, 70))
_GREYS = 256 - len(_COLOURS)
_HEART, _THORAX, _REVIEW = range(_GREYS, 256)
_FEWER = [level * (_GREYS - 1) // 255 for level in range(256)]  # of all levels of grey, those of the palette
_PALETTE = bytes(level * 255 // (_GREYS - 1) for level in range(_GREYS) for _ in "rgb") + bytes(
    value for colour in _COLOURS for value in colour
)
_TEXT, _MARGIN = 15, 6  # pixels


def overlay(
    picture: np.ndarray, edges: np.ndarray, result: Mapping[str, Any], case: str, structure: str = "heart"
) -> Image.Image:
    """Return an X-ray with the box, its width and height, the thorax's width and the numbers.

    Args:
        picture: (rows, columns) uint8.
        edges: (4,) or (6,) fractions of the picture's width and height.
        result: see :func:`pipelines.tasks.cardiac.cardiac_result`.
        case: stands at the top.
        structure: what the box is of.
    """
    from PIL import Image, ImageDraw, ImageOps

    rows, columns = picture.shape
    across = max(columns, 360)
    lines = [part for line in _lines(result, case, structure) for part in wrap(line, across // 8)]
    image = Image.new("L", (across, rows + len(lines) * (_TEXT + 4) + 2 * _MARGIN))
    image.paste(ImageOps.autocontrast(Image.fromarray(picture), cutoff=0.5).point(_FEWER))
    pixels = edges * np.array([columns, rows] * 2 + [columns] * 2)[: len(edges)]
    measures = _measures(pixels, rows, result)
    # letters while the picture is grey, where their rims can be smooth
    for number, line in enumerate(lines):
        write(image, _MARGIN, rows + _MARGIN + number * (_TEXT + 4), line, _TEXT, _GREYS - 1)
    for left, right, y, _, text in measures:
        start = (left + right - width(text, _TEXT)) / 2
        write(image, start, y - _TEXT - 9, text, _TEXT, _GREYS - 1, rim=0)
    image.putpalette(_PALETTE)
    pen = ImageDraw.Draw(image)
    pen.rectangle([round(float(v)) for v in pixels[:4]], outline=_HEART, width=2)
    for x in pixels[4:]:
        pen.line((float(x), 0.15 * rows, float(x), rows), fill=_THORAX, width=1)
    for left, right, y, colour, _ in measures:
        _arrow(pen, left, right, y, colour)
    if result["review"]["needed"]:
        pen.rectangle((0, 0, columns - 1, rows - 1), outline=_REVIEW, width=4)
    return image


def _measures(pixels: np.ndarray, rows: int, result: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return left, right, y, colour and text of the heart's width and, where it was learnt, the thorax's."""
    x0, y0, x1, y1 = (round(float(v)) for v in pixels[:4])
    in_mm = result["width_mm"] is not None
    heart = f"{result['width_mm']:.0f} mm" if in_mm else f"{result['width_px']:.0f} px"
    found: list[tuple[Any, ...]] = [(x0, x1, (y0 + y1) // 2, _HEART, heart)]
    if len(pixels) > 4:
        left, right = (round(float(v)) for v in pixels[4:])
        width = result["thorax_x_px"][1] - result["thorax_x_px"][0]
        scale = result["width_mm"] / max(result["width_px"], 1e-6) if in_mm else 1
        text = f"{width * scale:.0f} {'mm' if in_mm else 'px'}"
        found.append((left, right, min(y1 + 24, rows - 4), _THORAX, text))
    return found


def _arrow(pen: ImageDraw.ImageDraw, left: int, right: int, y: int, colour: int) -> None:
    """Draw a level line with a head at both ends."""
    pen.line((left, y, right, y), fill=colour, width=2)
    for x, step in ((left, 6), (right, -6)):
        pen.polygon([(x, y), (x + step, y - 4), (x + step, y + 4)], fill=colour)


def _lines(result: Mapping[str, Any], case: str, structure: str) -> list[str]:
    """Return what stands below the picture."""
    in_mm = result["width_mm"] is not None
    unit = "mm" if in_mm else "px"
    size = f"{structure} {result[f'width_{unit}']:.0f} x {result[f'height_{unit}']:.0f} {unit}"
    lines = [case[:60], f"{size} ({result['spacing_tag']})" if in_mm else size]
    if "cardiothoracic_ratio" in result:
        ratio, note = result["cardiothoracic_ratio"], result["ratio_note"]
        said = "no cardiothoracic ratio" if ratio is None else f"cardiothoracic ratio {ratio:.2f}"
        lines.append(f"{said} ({note})" if note else said)
    return lines + [f"review: {reason}" for reason in result["review"]["reasons"]]
