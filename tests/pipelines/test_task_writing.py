from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.tasks.writing import font, width, write

LINE = "heart 132 x 120 mm (PixelSpacing), AVTo, its answers disagree: thorax_x0 fjg Äé 1.2.276"


def difference(ours: Image.Image, theirs: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(ours, int) - np.asarray(theirs, int))


@pytest.mark.parametrize("size", [11, 12, 15])
def test_a_line_is_pillows_own_but_for_where_two_letters_touch(size):
    ours, theirs = Image.new("L", (720, 40)), Image.new("L", (720, 40))
    write(ours, 6, 8, LINE, size, 250)
    ImageDraw.Draw(theirs).text((6, 8), LINE, 250, font(size))
    assert np.asarray(ours).max() == 250
    assert (difference(ours, theirs) > 0).sum() <= 6
    assert difference(ours, theirs).max() < 40
    assert width(LINE, size) == font(size).getlength(LINE)


def test_a_rim_is_pillows_own_stroke():
    ours, theirs = Image.new("L", (100, 40), 90), Image.new("L", (100, 40), 90)
    ascent, _ = font(15).getmetrics()
    write(ours, 20, 10, "132 mm", 15, 250, rim=0)
    options = {"anchor": "ls", "stroke_width": 2, "stroke_fill": 0}
    ImageDraw.Draw(theirs).text((20, 10 + ascent), "132 mm", 250, font(15), **options)
    assert np.asarray(ours).min() == 0
    assert difference(ours, theirs).max() < 40
    assert (difference(ours, theirs) > 0).sum() <= 30


@pytest.mark.parametrize("text", ["", "beyond every border of the picture"])
def test_what_does_not_fit_is_cut_off(text):
    picture = Image.new("L", (20, 10), 90)
    write(picture, -8, -3, text, 15, 250, rim=0)
    assert picture.size == (20, 10)
    assert (np.asarray(picture) == 90).all() == (text == "")
