from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.activation import ActivationInferer
from pipelines.errors import UserError
from pipelines.evaluation.calibration import Calibration
from pipelines.tasks.pneumonia import (
    NOT_CALIBRATED,
    PneumoniaTask,
    draw_heat,
    heat_of,
    heat_over,
    validated,
)

POINTS = {
    name: {"threshold": threshold, "sensitivity": 0.9, "specificity": 0.9}
    for name, threshold in (("rule_out", 0.2), ("balanced", 0.5), ("rule_in", 0.8))
}
CALIBRATION = Calibration(temperature=2.0, operating_points=POINTS, cases=100)


def task(point="balanced", calibration=CALIBRATION):
    return PneumoniaTask(ActivationInferer(), [calibration], point)


@pytest.mark.parametrize(
    ("point", "threshold", "decision"),
    [("rule_out", 0.2, "positive"), ("balanced", 0.5, "positive"), ("rule_in", 0.8, "negative")],
)
def test_the_operating_point_decides_on_the_calibrated_probability(point, threshold, decision):
    # the mean of the map is 2: sigmoid(2 / 2) is 0.7311
    result, warnings = task(point).measure([np.array([[4.0, 0.0]])], None)
    wanted = {"probability": 0.7311, "decision": decision, "operating_point": point, "threshold": threshold}
    assert (result, warnings) == (wanted, [])


def test_a_probability_at_the_threshold_is_positive():
    assert task().measure([np.zeros((1, 1))], None)[0]["decision"] == "positive"


def test_an_uncalibrated_probability_says_so():
    result, warnings = task(calibration=Calibration()).measure([np.zeros((1, 1))], None)
    assert (result["probability"], result["threshold"], warnings) == (0.5, 0.5, [NOT_CALIBRATED])


def test_an_unknown_operating_point_is_refused():
    with pytest.raises(UserError, match="operating_point must be one of"):
        task("best")


def test_the_hottest_place_has_the_probability_of_the_image_and_the_coldest_none():
    heat = heat_of(np.array([[-2.0, 0.0], [1.0, 2.0]]), probability=0.8)
    np.testing.assert_allclose(heat, [[0, 0.4], [0.6, 0.8]])
    assert (heat_of(np.full((7, 7), 3.0), 0.9) == 0).all()  # a map that points nowhere


def test_heat_lies_where_the_map_is_hot_and_upright():
    picture = np.full((100, 200), 128, np.uint8)
    heat = np.zeros((2, 4))
    heat[1, 3] = 1.0  # lower right
    shown = heat_over(picture, heat).astype(int)
    coloured = np.ptp(shown, axis=2) > 20
    assert coloured[80, 180]
    assert shown[80, 180, 0] > shown[80, 180, 2]  # red, not blue
    assert not coloured[:40].any()
    assert not coloured[:, :90].any()


def test_an_image_without_heat_keeps_its_grey_levels():
    picture = np.arange(256, dtype=np.uint8)[None].repeat(8, axis=0)
    shown = heat_over(picture, np.zeros((7, 7))).astype(int)
    assert np.ptp(shown, axis=2).max() == 0
    assert np.abs(shown[..., 0] - picture).max() <= 8


@pytest.mark.parametrize("shape", [(512, 512), (512, 300), (200, 512), (512, 1)])
def test_an_overlay_holds_picture_headline_note_and_scale(shape):
    picture = np.full(shape, 100, np.uint8)
    overlay = draw_heat(picture, np.ones((7, 7)), "pneumonia 83%: positive", "case")
    pixels = np.asarray(overlay.convert("RGB")).astype(int)
    assert pixels.shape[0] == shape[0] + 50
    assert pixels[:30].max() > 200  # the headline is white
    assert np.ptp(pixels[30 : 30 + shape[0], : shape[1]], axis=2).min() > 20  # all of the picture is hot
    bar = pixels[40 : 30 + shape[0] - 12, shape[1] + 12]
    assert np.ptp(bar[0]) > 20 > np.ptp(bar[-1])  # hot above, grey below


def test_a_validated_image_is_a_row_of_numbers():
    item = {"pred": torch.tensor([0.25]), "label": torch.tensor([1.0]), "logits": torch.tensor([-1.5])}
    assert validated(item) == {"probability": 0.25, "label": 1, "logit": -1.5}
