"""Figures: that they are there and show what they should, read back from their pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from pipelines.evaluation.figures import (
    BLUE,
    ORANGE,
    SKY,
    bland_altman_figure,
    dice_by_case_figure,
    learning_curves,
)
from pipelines.evaluation.overlays import excerpt, overlay_figure

RNG = np.random.default_rng(0)
REFERENCE = RNG.uniform(40, 140, 60)
CASES = pd.DataFrame(
    {
        "case": [f"la_{i:03d}" for i in range(60)],
        "dice": RNG.uniform(0.8, 0.95, 60),
        "volume_ml": REFERENCE + RNG.normal(-2, 4, 60),
        "reference_volume_ml": REFERENCE,
    }
)


def pixels(path, colour):
    """The rows and columns of the pixels that have a colour."""
    return np.argwhere(np.abs(imread(path)[..., :3] - to_rgb(colour)).max(axis=-1) < 0.02)


@pytest.mark.parametrize("count", [1, 2, 20, 60])
@pytest.mark.parametrize("draw", [bland_altman_figure, dice_by_case_figure])
def test_charts_of_few_and_of_many_cases_show_points_and_a_line(tmp_path, draw, count):
    path = tmp_path / "figures" / "chart.png"
    draw(CASES[:count], path)
    assert len(pixels(path, BLUE)) > 30
    assert len(pixels(path, ORANGE)) > 300
    assert [file.name for file in path.parent.iterdir()] == ["chart.png"]


def test_a_dice_of_zero_lies_within_the_chart(tmp_path):
    dice_by_case_figure(pd.DataFrame({"case": ["a", "b"], "dice": [0.0, 1.0]}), tmp_path / "a.png")
    rows = pixels(tmp_path / "a.png", BLUE)[:, 0]
    assert rows.max() - rows.min() > 300


def test_learning_curves_have_a_panel_a_kind(tmp_path):
    curve = [(epoch, 1 / epoch) for epoch in range(1, 20)]
    learning_curves({"train_loss": curve}, tmp_path / "one.png")
    learning_curves({"train_loss": curve, "val_dice": curve[4::5], "lr": curve}, tmp_path / "three.png")
    one, three = (imread(tmp_path / name).shape[0] for name in ("one.png", "three.png"))
    assert three > 2 * one


@pytest.mark.parametrize("order", [("train/loss", "val/loss"), ("val/loss", "train/loss")])
def test_a_curve_has_the_colour_of_its_side_whichever_began(tmp_path, monkeypatch, order):
    drawn = []
    monkeypatch.setattr("pipelines.evaluation.figures.save_figure", lambda figure, path: drawn.append(figure))
    curve = [(1, 0.5), (2, 0.4)]
    learning_curves(dict.fromkeys((*order, "val/mean_dice"), curve), tmp_path / "curves.png")
    lines = {line.get_label(): line.get_color() for axes in drawn[0].axes for line in axes.get_lines()}
    assert lines == {"train/loss": BLUE, "val/loss": ORANGE, "val/mean_dice": ORANGE}


def test_learning_curves_of_one_epoch_name_no_part_of_an_epoch(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("pipelines.evaluation.figures.save_figure", lambda figure, path: drawn.append(figure))
    learning_curves({"train_loss": [(1, 0.6)], "val_dice": [(1, 0.3)]}, tmp_path / "curves.png")
    ticks = drawn[0].axes[-1].get_xticks()
    assert all(tick == int(tick) for tick in ticks)


@pytest.mark.parametrize(
    "history", [{}, {"train_loss": []}, {"train_loss": [(1, float("nan"))], "lr": [(1, 0.0)]}]
)
def test_learning_curves_of_a_training_that_barely_began_are_drawn(tmp_path, history):
    learning_curves(history, tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").size


def ball(shape, centre, radius, spacing):
    grid = np.stack(
        np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij"), -1
    )
    return np.linalg.norm(grid - centre, axis=-1) < radius


def test_an_overlay_shows_a_round_mask_round_whatever_the_spacing(tmp_path):
    spacing = (1.0, 3.0, 2.0)
    mask = ball((90, 30, 40), (45, 45, 40), 20, spacing)
    overlay_figure(mask * 7.0, mask, None, spacing, tmp_path / "overlay.png", "a ball")
    image = imread(tmp_path / "overlay.png")
    outline = pixels(tmp_path / "overlay.png", ORANGE)
    middle = outline[np.abs(outline[:, 1] - image.shape[1] / 2) < image.shape[1] / 10]
    middle = middle[middle[:, 0] < image.shape[0] * 0.8]  # above the legend
    height, width = np.ptp(middle, axis=0)
    assert height == pytest.approx(width, rel=0.12)


def test_prediction_and_reference_have_their_own_colours(tmp_path):
    mask = ball((40, 40, 9), (20, 20, 4), 8, (1, 1, 1))
    overlay_figure(mask, mask, np.roll(mask, 5, axis=0), (1, 1, 1), tmp_path / "both.png")
    assert len(pixels(tmp_path / "both.png", ORANGE)) > 300
    assert len(pixels(tmp_path / "both.png", SKY)) > 300


def test_an_outline_is_closed_where_the_mask_meets_the_border(tmp_path):
    full = np.ones((20, 20, 1), dtype=bool)
    overlay_figure(np.zeros((20, 20, 1)), full, None, (1, 1, 1), tmp_path / "full.png")
    assert len(pixels(tmp_path / "full.png", ORANGE)) > 500


def test_empty_masks_and_constant_images_are_drawn(tmp_path):
    empty = np.zeros((20, 30, 4), dtype=bool)
    overlay_figure(np.full(empty.shape, np.nan), empty, empty, (1, 1, 1), tmp_path / "empty.png")
    assert imread(tmp_path / "empty.png").size


def test_an_excerpt_holds_slices_inside_the_masks_and_a_margin_in_mm_around_them():
    mask = np.zeros((100, 100, 60), dtype=bool)
    mask[40:60, 50:60, 10:41] = True
    shown = excerpt(np.arange(mask.size).reshape(mask.shape), mask, None, (1.0, 2.0, 4.0), count=5, margin=10)
    assert shown.slices == [15, 20, 25, 30, 35]
    assert shown.image.shape == shown.prediction.shape == (20 + 2 * 10, 10 + 2 * 5, 5)
    assert shown.image.dtype == np.uint8
    assert shown.prediction.sum() == 20 * 10 * 5
    assert shown.reference is None


@pytest.mark.parametrize("depth", [1, 4, 5])
def test_an_excerpt_of_a_thin_mask_holds_all_its_slices(depth):
    mask = np.zeros((8, 8, 12), dtype=bool)
    mask[2:5, 2:5, 3 : 3 + depth] = True
    assert excerpt(mask, mask, mask, (1, 1, 1)).slices == list(range(3, 3 + depth))


def test_outliers_do_not_darken_an_excerpt():
    image = np.tile(np.linspace(0, 100, 50), (50, 1))[..., None].repeat(3, axis=2)
    image[0, 0, 0] = 1e6
    shown = excerpt(image, np.ones(image.shape, dtype=bool), None, (1, 1, 1))
    assert np.median(shown.image) == pytest.approx(127, abs=3)
