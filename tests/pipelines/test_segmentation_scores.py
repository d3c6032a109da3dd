"""Scores of tiny masks worked out by hand, and against scikit-learn and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, jaccard_score

from pipelines.errors import UserError
from pipelines.evaluation.segmentation import bland_altman, score_case, summarise_cases

SPACING = (1.0, 2.0, 2.5)
MASKS = arrays(bool, (4, 3, 5))


def mask(*voxels, shape=(7, 6, 8)):
    volume = np.zeros(shape, dtype=bool)
    for voxel in voxels:
        volume[voxel] = True
    return volume


@pytest.mark.parametrize(
    ("offset", "distance"), [((3, 0, 0), 3.0), ((0, 3, 0), 6.0), ((0, 0, 2), 5.0), ((3, 2, 0), 5.0)]
)
def test_two_voxels_are_as_far_apart_as_their_centres_in_mm(offset, distance):
    scores = score_case(mask((1, 1, 1)), mask(tuple(np.add((1, 1, 1), offset))), SPACING)
    assert scores["hd95_mm"] == pytest.approx(distance)
    assert scores["asd_mm"] == pytest.approx(distance)
    assert scores["dice"] == scores["iou"] == 0


def test_a_line_one_voxel_longer_than_its_reference():
    line = [(1, y, 1) for y in range(5)]
    scores = score_case(mask(*line), mask(*line[:4]), SPACING)
    assert scores["dice"] == pytest.approx(8 / 9)
    assert scores["iou"] == pytest.approx(4 / 5)
    # five distances there (0 0 0 0 2 mm): their 95th percentile lies 0.8 of the way from the 4th to the 5th
    assert scores["hd95_mm"] == pytest.approx(1.6)
    # and four back, all 0: 2 mm over nine surface voxels
    assert scores["asd_mm"] == pytest.approx(2 / 9)


def test_the_inside_of_a_mask_is_no_surface():
    cube, hollow = mask(shape=(7, 7, 7)), mask(shape=(7, 7, 7))
    cube[2:5, 2:5, 2:5] = hollow[2:5, 2:5, 2:5] = True
    hollow[3, 3, 3] = False
    scores = score_case(cube, hollow, (1, 1, 1))
    # the surface of both is the same 26 voxels: the hole's neighbours all lie on the outside as well
    assert scores["hd95_mm"] == 0
    assert scores["asd_mm"] == 0
    assert scores["dice"] == pytest.approx(2 * 26 / (27 + 26))


def test_volumes_are_in_millilitres_and_errors_are_prediction_minus_reference():
    prediction, reference = np.zeros((2, 20, 10, 30), dtype=bool)
    prediction[:10, :, :15] = True  # 1,500 voxels of 0.5 x 2 x 3 mm
    reference[:, :, :10] = True  # and 2,000
    scores = score_case(prediction, reference, (0.5, 2.0, 3.0))
    assert scores["volume_ml"] == pytest.approx(4.5)
    assert scores["reference_volume_ml"] == pytest.approx(6.0)
    assert scores["volume_error_ml"] == pytest.approx(-1.5)
    assert scores["volume_error_percent"] == pytest.approx(-25)


def test_two_empty_masks_agree_completely():
    scores = score_case(mask(), mask(), SPACING)
    assert (scores["dice"], scores["iou"], scores["hd95_mm"], scores["asd_mm"]) == (1, 1, 0, 0)
    assert scores["volume_error_ml"] == 0
    assert math.isnan(scores["volume_error_percent"])


@pytest.mark.parametrize(("prediction", "reference"), [(mask(), mask((0, 0, 0))), (mask((0, 0, 0)), mask())])
def test_one_empty_mask_scores_zero_and_has_no_distance(prediction, reference):
    scores = score_case(prediction, reference, SPACING)
    assert scores["dice"] == scores["iou"] == 0
    assert math.isnan(scores["hd95_mm"])
    assert math.isnan(scores["asd_mm"])
    assert abs(scores["volume_error_ml"]) == pytest.approx(0.005)


def test_a_missed_atrium_has_a_volume_error_of_minus_100_percent():
    assert score_case(mask(), mask((3, 3, 3)), SPACING)["volume_error_percent"] == pytest.approx(-100)


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS)
def test_dice_and_iou_are_those_of_scikit_learn(prediction, reference):
    scores = score_case(prediction, reference, SPACING)
    flat = reference.ravel(), prediction.ravel()
    assert scores["dice"] == pytest.approx(f1_score(*flat, zero_division=1.0))
    expected = jaccard_score(*flat, zero_division=0.0) if (prediction | reference).any() else 1
    assert scores["iou"] == pytest.approx(expected)


def surface(volume):
    """The centres in mm of the voxels that have a face neighbour outside, in plain loops."""
    padded = np.pad(volume, 1)
    steps = [step for axis in np.eye(3, dtype=int) for step in (axis, -axis)]
    voxels = np.argwhere(padded)
    return np.array([v for v in voxels if not all(padded[tuple(v + s)] for s in steps)]) * SPACING


@settings(max_examples=40, deadline=None)
@given(MASKS.filter(np.any), MASKS.filter(np.any))
def test_distances_are_those_of_all_pairs_of_surface_voxels(prediction, reference):
    scores = score_case(prediction, reference, SPACING)
    pairs = cdist(surface(prediction), surface(reference))
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    assert scores["hd95_mm"] == pytest.approx(hd95, abs=1e-5)
    assert scores["asd_mm"] == pytest.approx(np.concatenate([there, back]).mean(), abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(MASKS, MASKS, st.sampled_from(list(itertools.permutations(range(3)))), st.integers(0, 2))
def test_scores_do_not_depend_on_the_orientation_of_the_array_nor_on_empty_space(p, r, order, axis):
    expected = score_case(p, r, SPACING)
    moved = [np.pad(np.flip(m.transpose(order), axis), ((0, 3), (1, 0), (2, 2))) for m in (p, r)]
    scores = score_case(*moved, [SPACING[i] for i in order])
    assert scores == pytest.approx(expected, nan_ok=True, rel=1e-5, abs=1e-6)  # distances are float32


@settings(max_examples=30, deadline=None)
@given(MASKS, MASKS)
def test_overlap_and_distances_are_symmetric(prediction, reference):
    there, back = score_case(prediction, reference, SPACING), score_case(reference, prediction, SPACING)
    for name in ("dice", "iou", "hd95_mm", "asd_mm"):
        assert there[name] == pytest.approx(back[name], nan_ok=True)
    assert there["volume_error_ml"] == pytest.approx(-back["volume_error_ml"])


def test_masks_of_different_shape_are_refused():
    with pytest.raises(
        UserError, match=r"one shape, got \(7, 6, 8\) and \(7, 6, 7\); bring the prediction back"
    ):
        score_case(mask(), mask(shape=(7, 6, 7)), SPACING)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, 1, -2), (1, 1, math.nan), (1, 1, math.inf)])
def test_a_spacing_that_is_no_three_positive_numbers_is_refused(spacing):
    with pytest.raises(UserError, match=r"three positive numbers in mm, got \(1.*check the header"):
        score_case(mask(), mask(), spacing)


def test_bland_altman_by_hand():
    agreement = bland_altman([11, 22, 33], [10, 20, 30])  # differences 1, 2, 3: mean 2, sample sd 1
    assert agreement["bias"] == pytest.approx(2)
    assert agreement["sd"] == pytest.approx(1)
    assert (agreement["lower"], agreement["upper"]) == pytest.approx((0.04, 3.96))
    assert agreement["n"] == 3
    assert agreement["bias_ci95"] == pytest.approx((1, 3))


def test_bland_altman_intervals_lie_around_bias_and_limits():
    rng = np.random.default_rng(0)
    reference = rng.uniform(40, 120, 50)
    agreement = bland_altman(reference + rng.normal(-2, 5, 50), reference)
    for name in ("bias", "lower", "upper"):
        low, high = agreement[f"{name}_ci95"]
        assert low < agreement[name] < high
    # 1.96 times the standard error of a mean of 50 with sd 5
    low, high = agreement["bias_ci95"]
    assert (high - low) / 2 == pytest.approx(1.96 * 5 / math.sqrt(50), rel=0.2)


def test_bland_altman_of_one_pair_is_a_bias_without_limits():
    agreement = bland_altman([12.0], [10.0])
    assert (agreement["bias"], agreement["bias_ci95"], agreement["n"]) == (2, None, 1)
    assert math.isnan(agreement["sd"])
    assert math.isnan(agreement["lower"])
    assert agreement["upper_ci95"] is None


def test_bland_altman_leaves_out_pairs_with_an_undefined_volume():
    assert bland_altman([1, math.nan, 3], [0, 1, 0]) == bland_altman([1, 3], [0, 0])


def rows(*triples):
    """A table of cases that are one line of voxels each: (case, predicted, reference) lengths in voxels."""
    line = [(1, 1, z) for z in range(8)]
    return pd.DataFrame(
        [
            {"case": case, **score_case(mask(*line[:p]), mask(*line[:r]), (10, 10, 10))}
            for case, p, r in triples
        ]
    )


def test_the_metrics_of_three_cases_by_hand():
    metrics = summarise_cases(rows(("a", 2, 2), ("b", 1, 3), ("c", 3, 1)))
    assert metrics["mean_dice"]["value"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert metrics["median_dice"]["value"] == pytest.approx(0.5)
    assert metrics["min_dice"] == {"value": pytest.approx(0.5), "ci95": None, "unit": None, "cases": 3}
    assert metrics["mean_iou"]["value"] == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert metrics["mean_volume_ml"]["value"] == pytest.approx(2)
    assert metrics["volume_bias_ml"] == {"value": 0, "ci95": pytest.approx((-2, 2)), "unit": "mL", "cases": 3}
    assert metrics["mean_absolute_volume_error_ml"]["value"] == pytest.approx(4 / 3)
    assert metrics["mean_absolute_volume_error_percent"]["value"] == pytest.approx((0 + 200 / 3 + 200) / 3)
    assert metrics["volume_limits_upper_ml"]["value"] == pytest.approx(1.96 * 2)  # differences 0, -2, 2: sd 2
    assert metrics["mean_hd95_mm"]["unit"] == "mm"


def test_a_missed_case_counts_for_dice_and_is_left_out_of_the_distances():
    metrics = summarise_cases(rows(("a", 2, 2), ("b", 0, 3)))
    assert (metrics["mean_dice"]["value"], metrics["mean_dice"]["cases"]) == (0.5, 2)
    assert (metrics["mean_hd95_mm"]["value"], metrics["mean_hd95_mm"]["cases"]) == (0, 1)
    assert metrics["mean_hd95_mm"]["ci95"] is None


def test_one_case_has_metrics_without_intervals():
    metrics = summarise_cases(rows(("a", 2, 3)))
    assert metrics["mean_dice"]["value"] == pytest.approx(0.8)
    assert metrics["volume_bias_ml"]["value"] == pytest.approx(-1)
    assert all(metric["ci95"] is None for metric in metrics.values())
