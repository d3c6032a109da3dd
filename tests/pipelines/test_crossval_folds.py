from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.crossval.folds import draw_folds, draw_validation
from pipelines.errors import UserError


def plain(count):
    return [{"case": f"la_{i:03d}"} for i in range(1, count + 1)]


def xrays(patients, images=2, positive=0.5):
    """``images`` of each patient, the first ``positive`` of whom are positive in their last image."""
    return [
        {
            "case": f"x{patient:03d}-{image}",
            "group": f"p{patient:03d}",
            "label": int(patient < positive * patients and image == images - 1),
        }
        for patient in range(patients)
        for image in range(images)
    ]


def test_every_case_is_in_one_fold_and_folds_are_of_one_size():
    folds_of = draw_folds(plain(20), 5)
    assert set(folds_of) == {case["case"] for case in plain(20)}
    assert Counter(folds_of.values()) == dict.fromkeys(range(1, 6), 4)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=4, max_size=20),
    folds=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_a_patients_cases_are_in_one_fold_whatever_their_number(sizes, folds, seed):
    cases = [
        {"case": f"{patient}-{i}", "group": f"p{patient}"}
        for patient, size in enumerate(sizes)
        for i in range(size)
    ]
    folds_of = draw_folds(cases, folds, seed)
    seen = {(case["group"], folds_of[case["case"]]) for case in cases}
    assert len(seen) == len(sizes)
    assert set(folds_of.values()) == set(range(1, folds + 1))


def test_stratified_folds_hold_positives_in_the_same_shares_and_patients_whole():
    cases = xrays(patients=40, images=2, positive=0.25)
    folds_of = draw_folds(cases, 5, strata="label")
    positives = Counter(folds_of[case["case"]] for case in cases if case["label"])
    assert positives == dict.fromkeys(range(1, 6), 2)
    assert len({(case["group"], folds_of[case["case"]]) for case in cases}) == 40


def test_the_seed_alone_decides_and_the_order_of_the_cases_does_not():
    cases = xrays(30)
    shuffled = [cases[i] for i in np.random.default_rng(1).permutation(len(cases))]
    first = draw_folds(cases, 3, seed=7, strata="label")
    assert draw_folds(shuffled, 3, seed=7, strata="label") == first
    assert draw_folds(cases, 3, seed=8, strata="label") != first
    validating = draw_validation(cases, 4, seed=7, strata="label")
    assert draw_validation(shuffled, 4, seed=7, strata="label") == validating
    assert draw_validation(cases, 4, seed=8, strata="label") != validating


def test_an_eighth_of_the_patients_validates_unless_told_how_many():
    assert len(draw_validation(plain(16))) == 2
    assert len(draw_validation(plain(2))) == 1
    assert len(draw_validation(plain(16), 5)) == 5


def test_those_who_validate_are_whole_patients_with_both_labels():
    cases = xrays(patients=16, images=3, positive=0.5)
    names = set(draw_validation(cases, 4, strata="label"))
    chosen = [case for case in cases if case["case"] in names]
    assert Counter(case["group"] for case in chosen) == dict.fromkeys({case["group"] for case in chosen}, 3)
    # two positive patients of four, each with one positive image
    assert sum(case["label"] for case in chosen) == 2


@pytest.mark.parametrize(
    ("cases", "folds", "message"),
    [
        (plain(4), 1, "at least 2 folds, got 1"),
        (plain(4), 5, "5 folds need at least as many patients, got 4; take fewer folds"),
        (xrays(2, images=6), 3, "3 folds need at least as many patients, got 2"),
        (
            xrays(10, positive=0.2),
            3,
            "3 folds need at least as many patients of each label, got 2 with label 1",
        ),
    ],
)
def test_folds_without_enough_patients_are_refused(cases, folds, message):
    with pytest.raises(UserError, match=message):
        draw_folds(cases, folds, strata="label" if "label" in cases[0] else "")


@pytest.mark.parametrize(
    ("cases", "count"), [(plain(3), 3), (plain(1), None), (xrays(3, positive=0.3), None)]
)
def test_a_validation_that_leaves_nobody_to_train_is_refused(cases, count):
    with pytest.raises(UserError, match=r"cannot validate: at least one[\s\S]*must validate and one train"):
        draw_validation(cases, count, strata="label" if "label" in cases[0] else "")


def test_cases_of_one_label_make_no_folds():
    cases = [{"case": str(number), "label": 0} for number in range(8)]
    with pytest.raises(UserError, match="folds need cases of each label, all 8 have label 0; add the others"):
        draw_folds(cases, 2, strata="label")
