from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.errors import UserError
from pipelines.predict import predict_cases, result_record
from pipelines.readers.volume import VolumeInput

PROVENANCE = {"bundle": "atrium", "model_sha256": "ab", "config_sha256": "cd"}


def items(*cases):
    return [VolumeInput(case, Path("somewhere") / f"{case}.nii.gz", "nifti") for case in cases]


def predict_one(item, folder):
    (folder / "mask.nii.gz").write_bytes(b"mask")
    review = {"needed": item.case == "odd", "reasons": ["empty", "small"] if item.case == "odd" else []}
    result = {"left_atrium_volume_ml": 46.6, "spacing_mm": [0.6, 0.6, 2.5], "review": review}
    return result_record(PROVENANCE, item, result, ["a note"])


def failing(bad, error):
    def predict(item, folder):
        if item.case == bad:
            (folder / "half").touch()
            raise error
        return predict_one(item, folder)

    return predict


def run(inputs, out, predict=predict_one):
    console = Console(file=io.StringIO(), width=80)
    return predict_cases(inputs, predict, out, console), console.file.getvalue()


def summary(out):
    with open(out / "summary.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_decision_stands_beside_its_number(tmp_path):
    def decide(item, folder):
        return result_record(PROVENANCE, item, {"probability": 0.25, "decision": "negative"}, [])

    _, shown = run(items("a"), tmp_path, decide)
    assert "ok      a  probability 0.25, negative\n" in shown


def test_each_case_gets_a_whole_folder_and_a_row(tmp_path):
    code, shown = run(items("1.2.840", "odd"), tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert code == 0
    assert names(out) == ["1.2.840", "odd", "summary.csv"]
    assert names(out / "odd") == ["mask.nii.gz", "result.json"]
    assert json.loads((out / "1.2.840" / "result.json").read_text()) == {
        "bundle": "atrium",
        "model_sha256": "ab",
        "config_sha256": "cd",
        "input": "1.2.840.nii.gz",
        "result": {
            "left_atrium_volume_ml": 46.6,
            "spacing_mm": [0.6, 0.6, 2.5],
            "review": {"needed": False, "reasons": []},
        },
        "warnings": ["a note"],
    }
    assert summary(out)[1] == {
        "case": "odd",
        "status": "done",
        "left_atrium_volume_ml": "46.6",
        "spacing_mm": "0.6; 0.6; 2.5",
        "review.needed": "True",
        "review.reasons": "empty; small",
        "warnings": "a note",
        "reason": "",
    }
    assert "ok      1.2.840  left_atrium_volume_ml 46.6\n" in shown
    assert "review  odd  left_atrium_volume_ml 46.6 - empty; small\n" in shown


def test_bad_input_is_reported_in_one_line_and_the_others_still_run(tmp_path):
    error = UserError("expected a volume,\ngot [bold]none[/]; " + "a long reason " * 10)
    code, shown = run(items("a", "bad", "c"), tmp_path, failing("bad", error))
    assert code == 1
    assert names(tmp_path) == ["a", "c", "summary.csv"]
    assert "failed  bad  expected a volume, got [bold]none[/]; a long reason a long" in shown
    assert [row["status"] for row in summary(tmp_path)] == ["done", "failed", "done"]
    assert summary(tmp_path)[1]["reason"].startswith("expected a volume, got")


def test_a_case_takes_one_line_whatever_its_file_is_called(tmp_path):
    _, shown = run(items("a\nb", "c"), tmp_path, failing("a\nb", UserError("rename it")))
    assert shown.splitlines().count("failed  a\\nb  rename it") == 2  # when it happens, and in the summary
    assert "\nb " not in shown


def test_unexpected_error_keeps_its_traceback_for_the_log(tmp_path):
    code, shown = run(items("a", "bad"), tmp_path, failing("bad", ZeroDivisionError("oh")))
    assert code == 1
    assert "failed  bad  ZeroDivisionError: oh (see log.txt)" in shown
    assert "in predict" in (tmp_path / "log.txt").read_text()
    assert names(tmp_path) == ["a", "log.txt", "summary.csv"]


def test_nan_in_a_result_is_a_failure_not_a_file(tmp_path):
    def predict(item, folder):
        return result_record(PROVENANCE, item, {"left_atrium_volume_ml": float("nan")}, [])

    assert run(items("a"), tmp_path, predict)[0] == 1
    assert not (tmp_path / "a").exists()


def test_earlier_result_is_replaced_whole(tmp_path):
    run(items("a"), tmp_path)
    (tmp_path / "a" / "stale.png").touch()
    assert run(items("a"), tmp_path)[0] == 0
    assert names(tmp_path / "a") == ["mask.nii.gz", "result.json"]


def test_failure_leaves_the_earlier_result(tmp_path):
    run(items("a"), tmp_path)
    run(items("a"), tmp_path, failing("a", UserError("no")))
    assert names(tmp_path) == ["a", "summary.csv"]
    assert names(tmp_path / "a") == ["mask.nii.gz", "result.json"]


def test_move_that_fails_puts_the_earlier_result_back(tmp_path, monkeypatch):
    run(items("a"), tmp_path)
    rename, moves = Path.rename, []

    def refuse(self, target):
        moves.append(target)
        if len(moves) == 2:  # the old result is out of the way, and the new one is to take its place
            raise OSError("disk gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    assert run(items("a"), tmp_path)[0] == 1
    assert names(tmp_path / "a") == ["mask.nii.gz", "result.json"]
    assert names(tmp_path) == ["a", "log.txt", "summary.csv"]


def test_folder_that_is_no_result_is_never_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "scan.dcm").touch()
    code, shown = run(items("a", "b"), tmp_path)
    assert code == 1
    assert "exists and is no result that could be replaced; choose another --out" in shown
    assert names(tmp_path / "a") == ["scan.dcm"]
    assert (tmp_path / "b" / "result.json").exists()


@pytest.mark.parametrize("inner", ["a", "a/scan.nii.gz"])
def test_result_never_replaces_its_own_input(tmp_path, inner):
    run(items("a"), tmp_path)
    (tmp_path / "a" / "scan.nii.gz").touch()
    assert run([VolumeInput("a", tmp_path / inner, "nifti")], tmp_path)[0] == 1
    assert (tmp_path / "a" / "scan.nii.gz").exists()


def test_interrupt_keeps_what_was_finished(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(items("a", "b", "c"), tmp_path, failing("b", KeyboardInterrupt()))
    assert names(tmp_path) == ["a", "summary.csv"]
    assert [row["status"] for row in summary(tmp_path)] == ["done", "not run", "not run"]


def test_unusable_out_is_refused_before_any_work(tmp_path, monkeypatch):
    def never(item, folder):
        raise AssertionError("worked before the folder was tried")

    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"expected a folder to write the results to, got .*file \(.*another --out"
    ):
        run(items("a"), tmp_path / "file", never)
    with pytest.raises(UserError, match="Not a directory"):
        run(items("a"), tmp_path / "file" / "out", never)

    def read_only(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pipelines.predict.tempfile.TemporaryFile", read_only)
    with pytest.raises(UserError, match="Read-only file system"):
        run(items("a"), tmp_path / "out", never)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_result_folder_is_as_readable_as_any_other(tmp_path):
    run(items("a"), tmp_path / "out")
    assert (tmp_path / "out" / "a").stat().st_mode == (tmp_path / "out").stat().st_mode


def test_no_inputs_give_an_empty_summary(tmp_path):
    assert run([], tmp_path)[0] == 0
    assert summary(tmp_path) == []


def test_a_log_and_a_summary_that_cannot_be_written_do_not_hide_the_reason(tmp_path):
    (tmp_path / "log.txt").mkdir()
    (tmp_path / "summary.csv").mkdir()
    code, shown = run(items("bad", "a"), tmp_path, failing("bad", ZeroDivisionError("oh")))
    assert code == 1
    assert "ZeroDivisionError: oh" in shown
    assert "summary.csv  cannot be written" in shown
    assert (tmp_path / "a" / "result.json").is_file()
