from __future__ import annotations

import numpy as np
import pytest

from pipelines.evaluation.localisation import score_map


def heat(row, column, size=7):
    spot = np.zeros((size, size))
    spot[row, column] = 5
    return spot


def test_the_hottest_place_inside_a_box_is_a_hit_whatever_the_images_proportions():
    # place (1, 5) of 7 x 7 is around row 1.5 / 7 * 700 = 150 and column 5.5 / 7 * 1400 = 1100
    box = [1050, 120, 1150, 180]
    assert score_map(heat(1, 5), [box], (700, 1400))["pointing"] == 1
    assert score_map(heat(5, 1), [box], (700, 1400))["pointing"] == 0
    # a second box may hold it
    assert score_map(heat(5, 1), [box, [200, 500, 400, 600]], (700, 1400))["pointing"] == 1


def test_chance_is_the_boxes_share_of_the_image():
    # the left half, and the upper right quarter
    scores = score_map(heat(0, 0), [[0, 0, 50, 80], [50, 0, 100, 40], [50, 0, 60, 20]], (80, 100))
    assert scores["box_share"] == pytest.approx(0.75)


def test_iou_of_a_map_that_is_hot_exactly_in_the_box_is_one():
    halves = np.zeros((4, 2))
    halves[:, 0] = 1  # interpolated between the two columns: hotter than the middle on the left half
    assert score_map(halves, [[0, 0, 50, 100]], (100, 100))["iou"] == pytest.approx(1, abs=0.01)
    assert score_map(halves, [[50, 0, 100, 100]], (100, 100))["iou"] == pytest.approx(0, abs=0.01)


def test_a_map_without_any_difference_hits_nothing():
    assert score_map(np.zeros((7, 7)), [[50, 50, 60, 60]], (100, 100))["iou"] == 0
