from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from pipelines.crossval.pooled import pool, pooled_cases, with_folds
from pipelines.evaluation.results import read_results, write_results
from pipelines.registry import get_bundle


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


def test_parts_of_all_folds_together_are_scored(tmp_path):
    run_dirs = [tmp_path / "fold_1", tmp_path / "fold_2"]
    names = [[f"{fold}{i}" for i in range(6)] for fold in "ab"]
    for run_dir, of in zip(run_dirs, names, strict=True):
        run_dir.mkdir()
        (run_dir / "model.pt").write_bytes(b"weights")
        table = pd.DataFrame({"case": of, "label": [0, 0, 0, 1, 1, 1], "view": "AP", "sex": "F", "age": 50.0})
        table = table.assign(logit=0.0, probability=[0.1, 0.2, 0.3, 0.6, 0.7, 0.8], uncalibrated=0.5)
        write_results(run_dir, "pneumonia", run_dir / "model.pt", {}, table, {})
    plan = SimpleNamespace(dataset={"dir": "d", "hash": "h"})
    cases = [{"case": name, "group": name} for of in names for name in of]
    pool(tmp_path, run_dirs, get_bundle("pneumonia"), plan, cases)
    parts = read_results(tmp_path)[0]["parts"]
    # three of each label a fold are too few, six are enough
    assert {name: (part["cases"], part["positives"]) for name, part in parts.items()} == {
        "view_AP": (12, 6),
        "sex_F": (12, 6),
        "age_40-59": (12, 6),
    }
    assert parts["view_AP"]["metrics"]["auroc"]["value"] == 1
