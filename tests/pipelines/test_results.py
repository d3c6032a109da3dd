"""The result contract, written, read back and printed."""

from __future__ import annotations

import hashlib
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from pipelines.errors import UserError
from pipelines.evaluation.results import estimate, print_results, read_results, summarise, write_results

CASES = pd.DataFrame({"case": ["007", "NA", "c"], "dice": [0.9, 0.8, 0.0], "hd95_mm": [2.0, 3.0, math.nan]})


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    return path


def write(folder, checkpoint, cases=CASES, metrics=None):
    metrics = summarise(cases, {"dice": None, "hd95_mm": "mm"}) if metrics is None else metrics
    write_results(folder, "atrium", checkpoint, {"dir": "data/Task02_Heart", "hash": "abc"}, cases, metrics)
    return folder


def printed(folder):
    console = Console(file=io.StringIO(), width=100, color_system=None)
    print_results(folder, console)
    return console.file.getvalue()


def test_the_files_say_what_the_contract_says(tmp_path, checkpoint):
    metrics = {"mean_dice": {"value": 0.91, "ci95": (0.90, 0.92), "unit": None}}
    folder = write(tmp_path / "run", checkpoint, metrics=metrics)
    assert json.loads((folder / "metrics.json").read_text()) == {
        "bundle": "atrium",
        "checkpoint": {"path": str(checkpoint), "sha256": hashlib.sha256(b"weights").hexdigest()},
        "dataset": {"dir": "data/Task02_Heart", "hash": "abc", "cases": 3},
        "metrics": {"mean_dice": {"value": 0.91, "ci95": [0.90, 0.92], "unit": None}},
    }
    assert (folder / "cases.csv").read_text() == "case,dice,hd95_mm\n007,0.9,2\nNA,0.8,3\nc,0,\n"
    assert sorted(path.name for path in folder.iterdir()) == ["cases.csv", "metrics.json"]


def test_what_was_written_is_read_back(tmp_path, checkpoint):
    content, cases = read_results(write(tmp_path, checkpoint))
    pd.testing.assert_frame_equal(cases, CASES, check_dtype=False)
    assert cases["case"].tolist() == ["007", "NA", "c"]
    assert content["metrics"]["mean_dice"]["value"] == pytest.approx(1.7 / 3)


def test_undefined_numbers_become_null(tmp_path, checkpoint):
    metrics = {
        "a": {"value": math.nan, "ci95": (-math.inf, np.float32(1)), "unit": None, "cases": np.int64(2)}
    }
    content, _ = read_results(write(tmp_path, checkpoint, metrics=metrics))
    assert content["metrics"]["a"] == {"value": None, "ci95": [None, 1.0], "unit": None, "cases": 2}


def test_a_summary_by_hand_with_an_undefined_distance():
    metrics = summarise(CASES, {"dice": None, "hd95_mm": "mm"}, ("mean", "median", "min", "max"))
    assert {name: metric["value"] for name, metric in metrics.items()} == pytest.approx(
        {
            "mean_dice": 1.7 / 3,
            "median_dice": 0.8,
            "min_dice": 0.0,
            "max_dice": 0.9,
            "mean_hd95_mm": 2.5,
            "median_hd95_mm": 2.5,
            "min_hd95_mm": 2.0,
            "max_hd95_mm": 3.0,
        }
    )
    assert metrics["mean_hd95_mm"] == {"value": 2.5, "ci95": (2.0, 3.0), "unit": "mm", "cases": 2}
    assert metrics["min_dice"]["ci95"] is None


def test_a_summary_resamples_patients_where_they_are_named():
    cases = pd.DataFrame({"case": list("abcd"), "score": [1.0, 1.0, 3.0, 3.0]})
    metrics = summarise(cases, {"score": None}, groups=["p", "p", "q", "q"])
    assert metrics["mean_score"] == {"value": 2.0, "ci95": (1.0, 3.0), "unit": None, "cases": 4}
    assert summarise(cases, {"score": None}, groups=["p"] * 4)["mean_score"]["ci95"] is None


def test_an_estimate_of_nothing_is_undefined():
    metric = estimate([math.nan, math.nan], unit="mm")
    assert math.isnan(metric["value"])
    assert (metric["ci95"], metric["cases"]) == (None, 0)


def test_one_case_is_written_and_printed_without_interval(tmp_path, checkpoint):
    folder = write(tmp_path, checkpoint, cases=CASES[:1])
    assert read_results(folder)[0]["metrics"]["mean_dice"]["ci95"] is None
    lines = printed(folder).splitlines()
    assert lines[0].strip() == "atrium: 1 case"
    assert " 0.900 " in next(line for line in lines if "mean_dice" in line)


def test_the_table_shows_value_interval_unit_and_excluded_cases(tmp_path, checkpoint):
    lines = printed(write(tmp_path, checkpoint)).splitlines()
    dice, hd95 = (next(line for line in lines if name in line) for name in ("mean_dice", "mean_hd95_mm"))
    assert "0.567" in dice
    assert "0.000 to 0.900" in dice
    assert hd95.split() == ["mean_hd95_mm", "2.50", "mm", "2.00", "to", "3.00", "2"]
    assert dice.split()[-1] == "0.900"  # all count
    assert any(line.split()[-1:] == ["cases"] and "metric" in line for line in lines)
    assert "atrium: 3 cases" in lines[0]
    assert lines[-1] == "3 cases are few: their 95% intervals are narrower than they should be."


def test_a_baseline_stands_beside_its_metric_and_has_no_row_of_its_own(tmp_path, checkpoint):
    names = {
        "mean_iou": 0.857,
        "baseline_mean_iou": 0.636,
        "gain_over_baseline_iou": 0.221,
        "baseline_only": 0.5,
    }
    metrics = {name: {"value": value, "ci95": None, "unit": None} for name, value in names.items()}
    table = [line.split() for line in printed(write(tmp_path, checkpoint, metrics=metrics)).splitlines()]
    assert ["metric", "value", "95%", "interval", "baseline"] in table
    assert [words for words in table if words and ("iou" in words[0] or "baseline" in words[0])] == [
        ["mean_iou", "0.857", "-", "0.636"],
        ["gain_over_baseline_iou", "0.221", "-"],
        ["baseline_only", "0.500", "-"],
    ]


def write_with_parts(folder, checkpoint):
    def ratio(value, ci95=None):
        return {"value": value, "ci95": ci95, "unit": None, "cases": 2}

    metrics = {"auroc": ratio(0.9), "auroc_view_AP": ratio(0.75)}
    scores = {"auroc": ratio(0.75, [0.5, 0.987]), "average_precision": ratio(0.6), "brier": ratio(0.1)}
    parts = {
        "view_AP": {"cases": 2, "positives": 1, "metrics": scores},
        "view_PA": {"cases": 1, "positives": 0, "metrics": {}},
    }
    write_results(folder, "pneumonia", checkpoint, {"dir": "d", "hash": "h"}, CASES, metrics, parts)
    return folder


def test_parts_of_the_cases_are_a_table_of_their_own_a_line_each(tmp_path, checkpoint):
    folder = write_with_parts(tmp_path, checkpoint)
    assert read_results(folder)[0]["parts"]["view_AP"]["metrics"]["brier"]["value"] == 0.1
    table = [line.replace("│", " ").split() for line in printed(folder).splitlines()]
    assert ["view_AP", "2", "1", "0.75", "(0.50-0.99)", "0.60"] in table
    assert ["view_PA", "1", "0", "-", "-"] in table
    assert not any("auroc_view_AP" in line for line in table)


@pytest.mark.parametrize(
    "wrong", [[], {"view_AP": {}}, {"view_AP": {"cases": 1, "positives": 1, "metrics": 3}}]
)
def test_parts_that_are_none_are_refused(tmp_path, checkpoint, wrong):
    path = write_with_parts(tmp_path, checkpoint) / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "parts": wrong}))
    with pytest.raises(UserError, match="expected cases, positives and metrics of each of the parts"):
        read_results(tmp_path)


def test_a_second_evaluation_replaces_the_first(tmp_path, checkpoint):
    write(tmp_path, checkpoint)
    write(tmp_path, checkpoint, cases=CASES[:2])
    assert len(read_results(tmp_path)[1]) == 2


def test_no_cases_are_refused(tmp_path, checkpoint):
    with pytest.raises(UserError, match="at least one case to evaluate, got none"):
        write(tmp_path, checkpoint, cases=CASES[:0])


def test_a_case_that_comes_twice_is_refused(tmp_path, checkpoint):
    with pytest.raises(UserError, match="expected each case once, got '007' twice"):
        write(tmp_path, checkpoint, cases=pd.concat([CASES, CASES[:1]]))


def test_a_table_that_does_not_begin_with_case_is_refused(tmp_path, checkpoint):
    with pytest.raises(ValueError, match=r"first column must be 'case', got \['dice'\]"):
        write(tmp_path, checkpoint, cases=CASES[["dice", "case"]], metrics={})


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r"evaluated checkpoint at .*none\.pt, found no file"):
        write(tmp_path, tmp_path / "none.pt")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, checkpoint):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write results into .*file.*give a writable folder"):
        write(tmp_path / "file", checkpoint)


@pytest.mark.parametrize("name", ["metrics.json", "cases.csv"])
def test_a_missing_file_is_named(tmp_path, checkpoint, name):
    (write(tmp_path, checkpoint) / name).unlink()
    with pytest.raises(
        UserError, match=f"expected .* at .*{name}, cannot read .*No such file.*evaluate again"
    ):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON in .*metrics.json"),
        ("[1]", "lacks bundle, checkpoint, dataset, metrics"),
        (
            '{"bundle": "atrium", "checkpoint": {}, "dataset": []}',
            "lacks dataset, metrics, so it is not a result",
        ),
        (
            '{"bundle": "a", "checkpoint": {}, "dataset": {}, "metrics": {"m": {"value": "x"}}}',
            "expected a number as value of 'm'",
        ),
        (
            '{"bundle": "a", "checkpoint": {}, "dataset": {"cases": 9}, "metrics": {}}',
            "expected one evaluation in .*, got metrics.json of 9 cases and cases.csv of 3",
        ),
    ],
)
def test_a_malformed_metrics_file_is_refused(tmp_path, checkpoint, content, message):
    (write(tmp_path, checkpoint) / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"dice\n0.9\n", b"case,dice\na,1,2,3\n\xff", b"\x89PNG\r\n\x1a\n\x00\xff"]
)
def test_a_malformed_table_of_cases_is_refused(tmp_path, checkpoint, content):
    (write(tmp_path, checkpoint) / "cases.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"cases.csv, got .*evaluate again"):
        read_results(tmp_path)


def test_a_table_with_a_case_twice_is_refused(tmp_path, checkpoint):
    (write(tmp_path, checkpoint) / "cases.csv").write_text("case,dice\na,0.5\nb,0.5\na,0.5\n")
    with pytest.raises(UserError, match=r"expected each case once in .*cases.csv, got 'a' twice"):
        read_results(tmp_path)


@pytest.mark.parametrize("ci95", ["narrow", [0.5], [0.5, "wide"], {}])
def test_an_interval_that_is_none_is_refused(tmp_path, checkpoint, ci95):
    path = write(tmp_path, checkpoint) / "metrics.json"
    content = json.loads(path.read_text())
    content["metrics"]["mean_dice"]["ci95"] = ci95
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="expected two numbers as ci95 of 'mean_dice'"):
        read_results(tmp_path)


def test_results_of_several_checkpoints_say_so_and_show_the_spread_over_folds(tmp_path):
    metrics = {
        "mean_dice": {"value": 0.9, "ci95": None, "unit": None, "folds": {"values": [0.8, 1.0], "sd": 0.1414}}
    }
    weights = {"path": "runs/atrium/cv", "sha256": "abc", "folds": []}
    folder = write(tmp_path, weights, metrics=metrics)
    assert read_results(folder)[0]["checkpoint"] == weights
    assert "fold sd" in printed(folder)
    assert "0.141" in printed(folder)
    assert "fold sd" not in printed(write(tmp_path, weights))


def test_a_folder_whose_parts_alone_were_evaluated_names_them(tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match=f"there are results in {tmp_path / 'all'}"):
        read_results(tmp_path)
