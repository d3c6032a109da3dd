"""The split by patient: the same every time, without overlap, and clear about what it cannot do."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.datasets.splits import split_cases
from pipelines.errors import UserError


def fake_cases(count: int) -> list[dict[str, str]]:
    return [
        {"case": f"la_{i:03}", "image": f"{i}.nii.gz", "label": f"{i}.nii.gz"} for i in range(1, count + 1)
    ]


def names_of(split: dict) -> dict[str, list[str]]:
    return {side: [case["case"] for case in cases] for side, cases in split.items()}


def test_default_split_is_16_4_and_the_rest():
    split = names_of(split_cases(fake_cases(40)))
    assert split["train"] == [f"la_{i:03}" for i in range(1, 17)]
    assert split["val"] == ["la_017", "la_018", "la_019", "la_020"]
    assert split["test"] == [f"la_{i:03}" for i in range(21, 41)]


@pytest.mark.parametrize(
    ("count", "train", "val"), [(2, 1, 1), (3, 2, 1), (5, 4, 1), (10, 8, 2), (19, 15, 4)]
)
def test_small_set_is_split_in_the_same_proportion_and_said_so(caplog, count, train, val):
    with caplog.at_level(logging.INFO):
        split = split_cases(fake_cases(count))
    assert [len(split[side]) for side in ("train", "val", "test")] == [train, val, 0]
    assert f"asked for 16 + 4 of {count} cases: {train} train and {val} validate" in caplog.text


def test_exact_fit_is_not_commented_on(caplog):
    with caplog.at_level(logging.INFO):
        assert len(split_cases(fake_cases(20))["val"]) == 4
    assert caplog.text == ""


@given(count=st.integers(2, 60), train=st.integers(1, 60), val=st.integers(1, 60))
def test_any_numbers_split_without_loss_or_overlap(count, train, val):
    split = names_of(split_cases(fake_cases(count), train, val))
    assert split["train"]
    assert split["val"]
    assert split["train"] + split["val"] + split["test"] == [case["case"] for case in fake_cases(count)]


def test_names_are_exact_and_a_number_takes_from_what_they_leave():
    cases = fake_cases(5)
    both = names_of(split_cases(cases, ["la_003", "la_001"], ["la_002"]))
    assert both == {"train": ["la_001", "la_003"], "val": ["la_002"], "test": ["la_004", "la_005"]}
    assert names_of(split_cases(cases, 2, ["la_001"]))["train"] == ["la_002", "la_003"]
    assert names_of(split_cases(cases, ["la_002"], 1))["val"] == ["la_001"]


def test_text_of_a_command_line_is_a_number_or_names():
    assert names_of(split_cases(fake_cases(4), " 1", "la_003, la_004")) == {
        "train": ["la_001"],
        "val": ["la_003", "la_004"],
        "test": ["la_002"],
    }


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (["la_01"], 1, "train_cases names case 'la_01', .*did you mean 'la_001'"),
        (1, ["la_002", "la_002"], "val_cases names case 'la_002' more than once"),
        (["la_001"], ["la_001"], "case 'la_001' is in both"),
        (["la_001", "la_002", "la_003"], 1, "no case is left to validate"),
        (1, ["la_001", "la_002", "la_003"], "no case is left to train"),
        (0, 1, "train_cases must be a number of at least 1 or a list of case names, got 0"),
        (1, -1, "val_cases must be .* got -1"),
        ("-2", 1, "train_cases must be .* got -2"),
        (1, [], r"val_cases must be .* got \[\]"),
        (1.5, 1, "train_cases must be .* got 1.5"),
        (True, 1, "train_cases must be .* got True"),
        (None, 1, "train_cases must be .* got None"),
        ("", 1, "train_cases names case '', which is not in the data set"),
    ],
)
def test_impossible_split_is_a_user_error(train, val, message):
    with pytest.raises(UserError, match=message):
        split_cases(fake_cases(3), train, val)


def test_one_case_cannot_be_split():
    with pytest.raises(UserError, match=r"at least 2 cases.* got 1"):
        split_cases(fake_cases(1))
