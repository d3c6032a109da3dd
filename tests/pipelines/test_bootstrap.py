"""Intervals against SciPy, by hand, and by their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipelines.evaluation.bootstrap import FEW, bootstrap_ci, caution, defined


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_without_groups_the_interval_is_that_of_scipy(statistic):
    values = np.random.default_rng(1).normal(size=20)
    rng = {"random_state": np.random.default_rng(0)}  # the name of this argument that old and new SciPy know
    expected = stats.bootstrap(
        (values,), statistic, n_resamples=2000, vectorized=False, method="percentile", **rng
    )
    assert bootstrap_ci(values, statistic, n=2000, seed=0) == pytest.approx(
        tuple(expected.confidence_interval)
    )


def test_two_patients_give_the_range_of_their_values():
    assert bootstrap_ci([0.0, 1.0]) == (0.0, 1.0)


def test_an_interval_of_few_patients_is_too_narrow_and_said_to_be():
    rng = np.random.default_rng(0)
    held = {}
    for count in (3, FEW):
        ends = np.array([bootstrap_ci(rng.normal(size=count), n=200) for _ in range(400)])
        held[count] = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert held[3] < 0.8 < 0.86 < held[FEW] < 0.95  # and not 0.95
    assert caution(3) == "3 patients are few: their 95% intervals are narrower than they should be."
    assert caution(9, "case").startswith("9 cases are few")
    assert caution(1) == caution(FEW) == ""


def test_equal_values_give_an_interval_without_width():
    assert bootstrap_ci([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(2).normal(size=30)
    assert bootstrap_ci(values, seed=3) == bootstrap_ci(values, seed=3)
    assert bootstrap_ci(values, seed=3) != bootstrap_ci(values, seed=4)


def test_a_higher_level_gives_a_wider_interval():
    values = np.random.default_rng(2).normal(size=30)
    (low99, high99), (low80, high80) = bootstrap_ci(values, level=0.99), bootstrap_ci(values, level=0.8)
    assert low99 < low80 < high80 < high99


def test_95_percent_intervals_cover_the_true_mean_about_95_times_in_a_hundred():
    rng = np.random.default_rng(0)
    intervals = [bootstrap_ci(rng.normal(5, 2, 40), n=400, seed=trial) for trial in range(300)]
    covered = np.mean([low <= 5 <= high for low, high in intervals])
    assert 0.91 <= covered <= 0.98


def test_repeated_images_of_a_patient_do_not_narrow_the_interval():
    values = np.random.default_rng(5).normal(size=15)
    patients = [f"p{i}" for i in np.arange(15).repeat(10)]
    by_name = values[[int(name[1:]) for name in sorted(set(patients))]]
    assert bootstrap_ci(values.repeat(10), groups=patients) == pytest.approx(bootstrap_ci(by_name))
    low, high = bootstrap_ci(values.repeat(10))
    grouped_low, grouped_high = bootstrap_ci(values.repeat(10), groups=patients)
    assert grouped_high - grouped_low > 2.5 * (high - low)


def test_a_patient_comes_with_all_rows():
    sizes = set()
    bootstrap_ci(
        [1, 2, 3, 9], lambda rows: sizes.add(tuple(sorted(rows))) or 0.0, groups=["a", "a", "a", "b"]
    )
    assert sizes == {(1, 1, 2, 2, 3, 3), (1, 2, 3, 9), (9, 9)}


def test_cases_without_a_value_are_left_out():
    assert bootstrap_ci([1.0, np.nan, 2.0, 4.0]) == bootstrap_ci([1.0, 2.0, 4.0])


def test_a_row_of_a_table_is_left_out_when_any_of_its_columns_is_undefined():
    rows, patients = defined([[1, 2], [np.nan, 3], [4, 5]], groups=["b", "a", "b"])
    assert rows.tolist() == [[1, 2], [4, 5]]
    assert patients.tolist() == [1, 1]


def test_a_statistic_of_a_table_sees_whole_rows():
    table = np.column_stack([np.arange(10.0), 2 * np.arange(10.0)])
    assert bootstrap_ci(table, lambda rows: rows[:, 1].sum() / rows[:, 0].sum()) == pytest.approx((2, 2))


def test_resamples_without_a_defined_statistic_are_left_out():
    labels = np.array([0.0, 1.0])  # half of the resamples hold one class only
    assert bootstrap_ci(labels, lambda rows: 0.7 if len(set(rows)) == 2 else np.nan) == (0.7, 0.7)
    assert bootstrap_ci(labels, lambda rows: np.nan) is None


@pytest.mark.parametrize("values", [[], [0.9], [np.nan, np.nan], [0.9, np.nan]])
def test_fewer_than_two_cases_have_no_interval(values):
    assert bootstrap_ci(values) is None


def test_one_patient_with_many_images_has_no_interval():
    assert bootstrap_ci([0.1, 0.5, 0.9], groups=["p", "p", "p"]) is None


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match="each of 3 rows, got 2"):
        bootstrap_ci([1, 2, 3], groups=["a", "b"])
