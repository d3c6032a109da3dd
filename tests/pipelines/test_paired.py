"""Paired differences, derived by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from pipelines.errors import UserError
from pipelines.evaluation.numbers import number
from pipelines.evaluation.paired import SCORES, paired_difference, paired_differences, signed_rank_p
from pipelines.reports.words import in_words

DICE, HD95, AUROC = (next(s for s in SCORES if s.label == label) for label in ("Dice", "HD95", "AUROC"))


def test_two_patients_give_the_difference_and_the_interval_that_enumeration_gives():
    # the resampled means of the differences 0 and 0.2 are 0, 0.1, 0.1 and 0.2, a quarter each
    found = paired_difference(DICE, [0.5, 0.5], [0.5, 0.7])
    assert (found.a, found.b, found.value) == pytest.approx((0.5, 0.6, 0.1))
    assert found.ci95 == pytest.approx((0.0, 0.2))
    assert (found.cases, found.patients, found.verdict) == (2, 2, "unclear")


def test_a_difference_that_is_the_same_in_every_case_has_an_interval_without_width():
    found = paired_difference(
        DICE, [0.25, 0.5, 0.75, 0.5, 0.25, 0.5], [0.375, 0.625, 0.875, 0.625, 0.375, 0.625]
    )
    assert found.value == pytest.approx(0.125)
    assert found.ci95 == pytest.approx((0.125, 0.125))
    assert found.verdict == "better"
    # six of six in one direction: 2 / 2**6
    assert found.p == pytest.approx(0.03125)


def test_what_is_hard_for_both_counts_for_neither():
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 1, 40)
    found = paired_difference(DICE, hard, hard + 0.01)
    assert found.value == pytest.approx(0.01)
    assert found.ci95 == pytest.approx((0.01, 0.01))


def test_patients_are_resampled_whole():
    # eight cases of two patients: one patient's differ by 0.2, the other's not at all
    a, b = np.full(8, 0.5), np.array([0.5] * 4 + [0.7] * 4)
    of_patients = paired_difference(DICE, a, b, groups=["p"] * 4 + ["q"] * 4)
    assert of_patients.ci95 == pytest.approx((0.0, 0.2))
    assert (of_patients.cases, of_patients.patients) == (8, 2)
    # as patients of their own the mean is 0.2 times a binomial of 8 and 1/2, by 8: 1 to 7 of 8 are within 95%
    assert paired_difference(DICE, a, b).ci95 == pytest.approx((0.2 / 8, 0.2 * 7 / 8), abs=0.026)


def test_a_case_that_one_of_them_could_not_score_counts_for_neither():
    found = paired_difference(HD95, [4.0, math.nan, 6.0], [3.0, 1.0, math.nan])
    assert (found.a, found.b, found.value, found.cases, found.ci95) == (4.0, 3.0, -1.0, 1, None)


def test_lower_distances_are_a_gain():
    found = paired_difference(HD95, [4.0] * 6, [3.0, 3.0, 3.0, 3.0, 3.0, 2.0])
    assert found.value == pytest.approx(-7 / 6)
    assert found.gain == pytest.approx(7 / 6)
    assert found.gain_ci95 == tuple(-end for end in reversed(found.ci95))
    assert found.verdict == "better"


def test_the_signed_rank_test_gives_the_published_p_value_of_darwins_plants():
    # Darwin 1876, the example of scipy.stats.wilcoxon: W = 24, exact p
    heights = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]
    assert signed_rank_p(np.array(heights, float), range(15)) == pytest.approx(0.041259765625)


def test_the_signed_rank_test_is_of_patients():
    # means of three patients: 1, 2 and 3, all positive: 2 / 2**3
    assert signed_rank_p(np.array([0.0, 2.0, 2.0, 3.0]), ["p", "p", "q", "r"]) == pytest.approx(0.25)


def test_nothing_that_differs_has_no_p_value():
    assert signed_rank_p(np.zeros(5), range(5)) is None
    assert signed_rank_p(np.zeros(0), []) is None


def test_an_auroc_is_paired_as_the_difference_of_two_areas_by_hand():
    # of the four pairs of a positive and a negative A orders three rightly, B all
    labels = [0, 0, 1, 1]
    a, b = (np.column_stack([labels, scores]) for scores in ([0.1, 0.6, 0.5, 0.9], [0.1, 0.2, 0.5, 0.9]))
    found = paired_difference(AUROC, a, b)
    assert (found.a, found.b, found.value, found.p) == (0.75, 1.0, 0.25, None)
    assert found.ci95 == pytest.approx(
        (0.0, 1.0)
    )  # a resample of the positive 0.5 and the negative 0.6 alone has 0


def test_a_classification_pairs_areas_brier_scores_and_the_balanced_decision():
    a = pd.DataFrame({"label": [0, 1], "probability": [0.2, 0.6], "decision_balanced": [0, 0]})
    b = pd.DataFrame({"label": [0, 1], "probability": [0.4, 0.9], "decision_balanced": [0, 1]})
    found = {d.score.name: d.value for d in paired_differences(SCORES, a, b)}
    assert found == pytest.approx(
        {
            "auroc": 0,
            "average_precision": 0,
            "brier": (0.16 + 0.01) / 2 - (0.04 + 0.16) / 2,
            "sensitivity_balanced": 1,
            "specificity_balanced": 0,
        }
    )


def test_a_brier_score_is_that_of_the_temperatures_of_other_patients_where_there_are_some():
    a = pd.DataFrame({"label": [0, 1], "probability": [0.0, 1.0], "cross_fitted": [0.5, 0.5]})
    found = {d.score.name: d.a for d in paired_differences(SCORES, a, a)}
    assert found["brier"] == 0.25


def test_cases_of_one_label_have_no_area_and_the_rest_is_paired():
    a = pd.DataFrame({"label": [1, 1], "probability": [0.2, 0.6]})
    assert {d.score.name for d in paired_differences(SCORES, a, a)} == {"average_precision", "brier"}


def test_boxes_are_paired_by_what_both_runs_learnt():
    a = pd.DataFrame({"iou": [0.8, 0.9], "error_width_px": [-4.0, 2.0], "error_height_px": [0.0, 0.0]})
    b = a.assign(iou=[0.9, 0.9], error_width_px=[1.0, -1.0], ratio=0.5, reference_ratio=0.4, view="PA")
    found = {d.score.name: d for d in paired_differences(SCORES, a, b)}
    assert set(found) == {"mean_iou", "mae_width_px", "mae_height_px"}
    assert (found["mae_width_px"].a, found["mae_width_px"].b) == (3.0, 1.0)
    assert found["mae_height_px"].verdict == "equal"


def test_a_ratio_is_compared_where_it_may_be_measured():
    a = pd.DataFrame({"ratio": [0.5, 0.5], "reference_ratio": [0.4, 0.1], "view": ["PA", "AP"]})
    found = {d.score.name: d for d in paired_differences(SCORES, a, a)}
    assert (found["ratio_mae"].a, found["ratio_mae"].cases) == (pytest.approx(0.1), 1)
    unknown = a.assign(view=math.nan)  # as "" comes back from a file
    (found,) = paired_differences(SCORES, unknown, unknown)
    assert (found.a, found.cases) == (pytest.approx(0.25), 2)


def words(a, b, score=DICE, shared=None, groups=None):
    return in_words(paired_difference(score, a, b, groups), "old", "new", shared or len(a))


def test_a_better_run_is_named_with_amount_interval_cases_and_test():
    assert words([0.5] * 8, [0.625] * 8) == (
        "new is better by 0.125 Dice, 95% interval 0.125 to 0.125, on 8 shared cases (Wilcoxon p = 0.008)."
    )
    assert words([4.0] * 8, [5.5] * 8, HD95) == (
        "old is better by 1.50 mm HD95, 95% interval 1.50 to 1.50, on 8 shared cases (Wilcoxon p = 0.008)."
    )


def test_noise_is_called_noise():
    said = words([0.5] * 6, [0.6, 0.4, 0.7, 0.4, 0.6, 0.5])
    assert said.startswith("Within noise: Dice differs by 0.033 in favour of new, 95% interval -0.")


def test_what_is_equal_on_average_is_in_nobodys_favour():
    said = words([0.5] * 6, [0.6, 0.4] * 3)
    assert said.startswith("Within noise: Dice differs by 0.000, 95% interval -0.")


def test_few_patients_decide_nothing_whether_their_interval_holds_0_or_not():
    assert words([0.5] * 3, [0.625] * 3) == (
        "Too few patients to tell: Dice differs by 0.125 in favour of new, 95% interval 0.125 to 0.125, "
        "on 3 shared cases (Wilcoxon p = 0.250)."
    )
    assert words([0.5] * 2, [0.5, 0.75]) == (
        "Too few patients to tell: Dice differs by 0.125 in favour of new, 95% interval 0.000 to 0.250, "
        "on 2 shared cases (Wilcoxon p = 1.000)."
    )
    assert words([0.5], [0.625]) == (
        "Too few patients to tell: Dice differs by 0.125 in favour of new, on 1 shared case (Wilcoxon p = 1.000)."
    )


def test_patients_and_cases_without_a_score_are_counted():
    assert ", on 4 of 5 shared cases of 2 patients" in words(
        [4.0, 4.0, 4.0, 4.0, math.nan], [3.0] * 5, HD95, groups=list("ppqqr")
    )


def test_equal_runs_are_said_to_be_equal():
    assert (
        words([0.5, 0.6], [0.5, 0.6]) == "No difference: Dice is the same in old and new, on 2 shared cases."
    )


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, None, "0.123"),
        (12.345, "mm", "12.35"),
        (-0.0001, None, "0.000"),
        (3.0, "cases", "3"),
        (None, None, "-"),
    ],
)
def test_numbers_are_written_as_people_read_them(value, unit, text):
    assert number(value, unit) == text


def test_a_score_that_is_no_number_is_answered():
    damaged = pd.DataFrame({"case": ["a", "b"], "dice": ["0.5", "half"]})
    with pytest.raises(UserError, match=r"expected numbers for Dice in the cases\.csv of both runs.*'half'"):
        paired_differences(SCORES, damaged, damaged)


def test_tables_are_paired_by_the_columns_that_they_have():
    a, b = (pd.DataFrame({"case": ["a", "b"], "dice": dice}) for dice in ([0.5, 0.5], [0.75, 0.75]))
    assert [(d.score.name, d.value) for d in paired_differences(SCORES, a, b)] == [("mean_dice", 0.25)]
