from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipelines.evaluation.classification_report import by_part, parts, summarise


@pytest.fixture
def cases():
    """Twelve cases, six of each label; the network is right on all but one of each."""
    label = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    probability = np.array([0.1, 0.1, 0.2, 0.2, 0.3, 0.7, 0.4, 0.6, 0.8, 0.8, 0.9, 0.9])
    return pd.DataFrame(
        {
            "label": label,
            "probability": probability,
            "uncalibrated": np.clip(probability * 1.1, 0, 1),
            "decision_balanced": (probability >= 0.5).astype(int),
            "view": ["AP"] * 11 + [None],
            "sex": ["F", "M"] * 6,
            "age": [30.0] * 6 + [np.nan] * 6,
        }
    )


def values(metrics):
    return {name: metric["value"] for name, metric in metrics.items()}


def test_metrics_of_a_few_cases_by_hand(cases):
    found = summarise(cases, range(12))
    # of 36 pairs the negative at 0.7 is above two positives
    assert values(found)["auroc"] == pytest.approx(34 / 36)
    assert values(found)["sensitivity_balanced"] == pytest.approx(5 / 6)
    assert values(found)["specificity_balanced"] == pytest.approx(5 / 6)
    squared = [0.01, 0.01, 0.04, 0.04, 0.09, 0.49, 0.36, 0.16, 0.04, 0.04, 0.01, 0.01]
    assert values(found)["brier"] == pytest.approx(np.mean(squared))
    assert found["auroc"]["ci95"][0] <= 34 / 36 <= found["auroc"]["ci95"][1]
    assert "sensitivity_rule_in" not in found
    assert not any("note" in metric for metric in found.values())


def test_a_part_with_fewer_than_five_of_a_label_gets_no_scores(cases):
    found = summarise(cases, range(12))
    # AP: six negatives and five positives; neither sex and no age band has five of each
    assert {name for name in found if name.startswith("auroc")} == {"auroc", "auroc_view_AP"}
    assert found["auroc_view_AP"]["cases"] == 11
    assert values(found)["sensitivity_balanced_view_AP"] == pytest.approx(4 / 5)


def test_parts_hold_each_case_once_a_kind_with_the_unknown_named(cases):
    found = dict(parts(cases))
    assert set(found) == {"view_AP", "view_unknown", "sex_F", "sex_M", "age_18-39", "age_unknown"}
    assert found["view_unknown"].tolist() == [False] * 11 + [True]


def test_names_of_parts_are_allowed_in_mlflow(cases):
    names = [name for name, _ in parts(cases.assign(age=[5, 25, 45, 65, 85, 100] * 2))]
    assert "age_80_and_above" in names
    assert all(set(name) <= set("-_abcdefghijklmnopqrstuvwxyzAPFM0123456789") for name in names)


def test_intervals_resample_patients(cases):
    of_one = summarise(cases, ["one"] * 12)
    assert of_one["auroc"]["ci95"] is None


def test_what_was_fitted_on_these_cases_says_so_and_is_scored_cross_fitted(cases):
    found = summarise(cases.assign(cross_fitted=cases["label"].astype(float)), range(12))
    assert values(found)["brier"] == values(found)["calibration_error"] == 0
    assert "other four fifths" in found["brier"]["note"]
    assert "chosen on these very cases" in found["sensitivity_balanced"]["note"]
    assert "note" not in found["brier_uncalibrated"]


def test_the_header_alone_and_the_gain_over_it_stand_beside_the_network(cases):
    found = summarise(cases.assign(header_only=0.5), range(12))
    assert values(found)["auroc_header_only"] == 0.5
    assert values(found)["auroc_gain_over_header"] == pytest.approx(34 / 36 - 0.5)


def test_heat_maps_are_judged_where_there_are_boxes(cases):
    marked = cases.assign(
        pointing=[np.nan] * 8 + [1, 1, 1, 0], box_share=[np.nan] * 8 + [0.1] * 4, iou=np.nan
    )
    found = summarise(marked, range(12))
    assert (found["pointing_game"]["value"], found["pointing_game"]["cases"]) == (0.75, 4)
    assert found["pointing_game_by_chance"]["value"] == pytest.approx(0.1)


def test_each_part_has_its_counts_and_the_scores_of_all_cases(cases):
    every = cases.assign(
        header_only=0.5,
        decision_rule_out=1,
        decision_rule_in=0,
        view=["AP"] * 12,
        sex=["F"] * 6 + ["M"] * 6,
        age=np.nan,
    )
    found = by_part(every, range(12))
    assert {name: (part["cases"], part["positives"]) for name, part in found.items()} == {
        "view_AP": (12, 6),
        "sex_F": (6, 0),
        "sex_M": (6, 6),
        "age_unknown": (12, 6),
    }
    assert found["sex_F"]["metrics"] == found["sex_M"]["metrics"] == {}  # no positive, no negative
    # a part that holds every case scores what all of them do, intervals too
    whole = summarise(every, range(12))
    names = ["auroc", "average_precision", "brier", "calibration_error", "auroc_header_only"]
    names += ["brier_uncalibrated", "calibration_error_uncalibrated"]
    names += [
        f"{of}_{point}"
        for point in ("rule_out", "balanced", "rule_in")
        for of in ("sensitivity", "specificity")
    ]
    assert set(found["view_AP"]["metrics"]) == set(names)
    assert found["view_AP"]["metrics"] == {name: whole[name] for name in names}
    assert values(found["view_AP"]["metrics"])["sensitivity_rule_out"] == 1
    assert values(found["view_AP"]["metrics"])["specificity_rule_out"] == 0


def test_a_part_is_scored_on_its_own_cases_by_hand(cases):
    ap = by_part(cases, range(12))["view_AP"]
    # without the last positive at 0.9: of 30 pairs the negative at 0.7 is above two
    assert values(ap["metrics"])["auroc"] == pytest.approx(28 / 30)
    assert values(ap["metrics"])["sensitivity_balanced"] == pytest.approx(4 / 5)
    assert ap["metrics"]["auroc"]["ci95"][0] < 28 / 30


def test_scores_of_a_part_say_that_they_were_fitted_on_its_cases(cases):
    fitted = by_part(cases.assign(cross_fitted=cases["label"].astype(float)), range(12))["view_AP"]["metrics"]
    assert "chosen on these very cases" in fitted["specificity_balanced"]["note"]
    assert values(fitted)["brier"] == 0
