from __future__ import annotations

import math

import pandas as pd
import pytest

from pipelines.crossval.pooled import pooled_cases, with_folds


def test_the_fold_stands_beside_the_case():
    tables = [
        pd.DataFrame({"case": ["a", "b"], "dice": [0.5, 0.7]}),
        pd.DataFrame({"case": ["c"], "dice": [0.9]}),
    ]
    pooled = pooled_cases(tables)
    assert list(pooled) == ["case", "fold", "dice"]
    assert pooled.to_numpy().tolist() == [["a", 1, 0.5], ["b", 1, 0.7], ["c", 2, 0.9]]


def test_what_one_fold_does_not_know_is_left_out_and_said(caplog):
    tables = [
        pd.DataFrame({"case": ["a"], "decision": [1], "p": [0.5]}),
        pd.DataFrame({"case": ["b"], "p": [0.1]}),
    ]
    assert list(pooled_cases(tables)) == ["case", "fold", "p"]
    assert "Not known in every fold, and left out of the result: decision." in caplog.messages


def test_the_spread_is_the_sample_standard_deviation_of_the_folds():
    folds = [{"dice": {"value": 0.8}}, {"dice": {"value": 0.9}}, {"dice": {"value": 1.0}}]
    found = with_folds({"dice": {"value": 0.85, "ci95": None}}, folds)["dice"]
    assert found["value"] == 0.85
    assert found["folds"] == {"values": [0.8, 0.9, 1.0], "sd": pytest.approx(0.1)}


def test_a_fold_without_a_value_does_not_count_in_the_spread():
    folds = [{"auroc": {"value": 0.8}}, {"auroc": {"value": None}}, {}, {"auroc": {"value": 0.9}}]
    found = with_folds({"auroc": {"value": 0.85}, "new": {"value": 1}}, folds)
    assert found["auroc"]["folds"]["sd"] == pytest.approx(0.1 / math.sqrt(2))
    assert [math.isnan(value) for value in found["auroc"]["folds"]["values"]] == [False, True, True, False]
    assert math.isnan(found["new"]["folds"]["sd"])
