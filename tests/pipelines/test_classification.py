from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from pipelines.evaluation import classification as scores

# of three positives and three negatives, one pair of nine is the wrong way round
LABELS, PROBABILITIES = [0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.8, 0.9]

cases = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda n: n / 20)), min_size=2, max_size=60
).filter(lambda rows: len({label for label, _ in rows}) == 2)


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    assert scores.auroc(LABELS, PROBABILITIES) == pytest.approx(8 / 9)
    assert scores.auroc([0, 1], [0.5, 0.5]) == 0.5
    assert math.isnan(scores.auroc([1, 1], [0.1, 0.9]))


def test_average_precision_is_the_mean_precision_at_the_positives():
    # 0.9: 1 of 1, 0.8: 2 of 2, 0.3: 3 of 4
    assert scores.average_precision(LABELS, PROBABILITIES) == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert math.isnan(scores.average_precision([0, 0], [0.1, 0.9]))


@settings(deadline=None)  # a busy machine is no failure
@given(cases)
def test_ranking_scores_are_scikit_learns(rows):
    labels, probabilities = map(list, zip(*rows, strict=True))
    assert scores.auroc(labels, probabilities) == pytest.approx(sklearn.roc_auc_score(labels, probabilities))
    theirs = sklearn.average_precision_score(labels, probabilities)
    assert scores.average_precision(labels, probabilities) == pytest.approx(theirs)
    assert scores.brier(labels, probabilities) == pytest.approx(
        sklearn.brier_score_loss(labels, probabilities)
    )
    rates = sklearn.roc_curve(labels, probabilities, drop_intermediate=False)[:2]
    np.testing.assert_allclose(scores.roc_curve(labels, probabilities), rates)


def test_calibration_error_weighs_each_bins_gap_by_its_cases():
    labels = [0, 1, 1, 1, 0]
    probabilities = [0.1, 0.15, 0.9, 0.95, 1.0]
    # bin 0.1-0.2: share 1/2, mean 0.125, 2 cases; bin 0.9-1: share 2/3, mean 0.95, 3 cases
    wanted = (2 * (0.5 - 0.125) + 3 * (0.95 - 2 / 3)) / 5
    assert scores.calibration_error(labels, probabilities) == pytest.approx(wanted)


def test_a_certain_and_right_network_has_no_calibration_error():
    assert scores.calibration_error([0, 1, 1], [0.0, 1.0, 1.0]) == 0


def test_sensitivity_and_specificity_of_counts_by_hand():
    labels, decisions = [1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 1, 0, 0]
    assert scores.sensitivity(labels, decisions) == pytest.approx(3 / 4)
    assert scores.specificity(labels, decisions) == pytest.approx(2 / 3)
    assert math.isnan(scores.sensitivity([0, 0], [0, 1]))
    assert math.isnan(scores.specificity([1, 1], [0, 1]))


def test_thresholds_lie_halfway_between_probabilities_that_occur():
    chosen = scores.choose_thresholds(LABELS, PROBABILITIES)
    # all three positives are at 0.3 and above; all negatives at 0.4 and below
    assert chosen["rule_out"] == pytest.approx(0.25)
    assert chosen["rule_in"] == pytest.approx(0.6)
    # sensitivity + specificity is 2/3 + 1 above 0.4, and 1 + 2/3 above 0.2: the stricter of equals
    assert chosen["balanced"] == pytest.approx(0.6)


@settings(deadline=None)  # a busy machine is no failure
@given(cases)
def test_thresholds_keep_what_they_promise_and_none_better_is_left(rows):
    labels, probabilities = (np.array(column) for column in zip(*rows, strict=True))
    chosen = scores.choose_thresholds(labels, probabilities)
    candidates = [-1, *np.unique(probabilities) + 1e-9, 2]

    def rates(threshold):
        decisions = probabilities >= threshold
        return scores.sensitivity(labels, decisions), scores.specificity(labels, decisions)

    found = [rates(threshold) for threshold in candidates]
    assert rates(chosen["rule_out"])[0] >= 0.95
    assert rates(chosen["rule_out"])[1] == max(spec for sens, spec in found if sens >= 0.95)
    assert rates(chosen["rule_in"])[1] >= 0.95
    assert rates(chosen["rule_in"])[0] == max(sens for sens, spec in found if spec >= 0.95)
    assert sum(rates(chosen["balanced"])) == pytest.approx(max(map(sum, found)))
