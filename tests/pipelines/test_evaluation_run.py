from __future__ import annotations

import json

import pytest
from ignite.engine import Engine

import pipelines.evaluation.run as evaluation
from pipelines.datasets.datalist import dataset_hash, write_datalist
from pipelines.datasets.msd import load_split, read_cases
from pipelines.errors import UserError
from pipelines.evaluation.run import Target, evaluation_metrics, with_reference


@pytest.fixture
def run_dir(phantom, tmp_path):
    """A run folder: la_001 and la_002 train, la_003 validates, la_004 is left."""
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    write_datalist(load_split(phantom, 2, 1), phantom, folder / "datalist.json")
    return folder


def names(target):
    return [item["case"] for item in target.cases]


def error_of(*arguments, **options):
    with pytest.raises(UserError) as caught:
        Target(arguments[0], read_cases, *arguments[1:], **options)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


@pytest.mark.parametrize(
    ("cases", "part", "chosen", "folder"),
    [
        ("train", "train", ["la_001", "la_002"], "train"),
        ("val", "val", ["la_003"], "."),
        ("test", "test", ["la_004"], "test"),
        ("all", "all", ["la_001", "la_002", "la_003", "la_004"], "all"),
        ("la_004", "cases", ["la_004"], "cases"),
        ("la_003, la_001,la_003", "cases", ["la_003", "la_001"], "cases"),
        (("la_001", "la_003"), "cases", ["la_001", "la_003"], "cases"),
        (["val"], "val", ["la_003"], "."),
    ],
)
def test_cases_and_folder_follow_from_what_is_asked(run_dir, cases, part, chosen, folder):
    target = Target(run_dir / "model.pt", read_cases, cases)
    assert (target.part, names(target)) == (part, chosen)
    assert target.folder == run_dir / folder
    assert target.run_dir == run_dir


def test_items_name_image_and_reference_and_the_data_set(run_dir, phantom):
    target = Target(run_dir / "model.pt", read_cases, "val", output_dir="elsewhere")
    assert with_reference(target.cases) == [
        {
            "case": "la_003",
            "image": str(phantom / "imagesTr" / "la_003.nii.gz"),
            "reference": str(phantom / "labelsTr" / "la_003.nii.gz"),
        }
    ]
    assert str(target.folder) == "elsewhere"
    assert target.dataset == {"dir": "Task02_Heart", "hash": dataset_hash(read_cases(phantom)[2:3])}


def test_data_set_that_was_moved_is_found_where_it_is_now(run_dir, phantom, tmp_path):
    (tmp_path / "moved").symlink_to(phantom)
    target = Target(run_dir / "model.pt", read_cases, "val", tmp_path / "moved")
    assert target.cases[0]["image"] == str(tmp_path / "moved" / "imagesTr" / "la_003.nii.gz")
    assert target.dataset["dir"] == "moved"


def test_relative_data_set_is_recorded_by_its_own_name(run_dir, phantom, monkeypatch):
    monkeypatch.chdir(phantom)
    assert Target(run_dir / "model.pt", read_cases, "all", ".").dataset["dir"] == "Task02_Heart"


def test_weights_outside_any_run_folder_need_a_data_set_and_its_cases(phantom, tmp_path):
    weights = tmp_path / "weights.pt"
    assert names(Target(weights, read_cases, "all", phantom)) == ["la_001", "la_002", "la_003", "la_004"]
    assert Target(weights, read_cases, "all", phantom).folder == tmp_path / "all"
    for cases, dataset_dir in (("val", phantom), ("val", None), ("all", None), ("la_001", None)):
        message = error_of(weights, cases, dataset_dir)
        assert "holds no datalist.json, so the split of the training is not known" in message
        assert "Give --dataset_dir, and --cases all" in message


def test_impossible_wishes_are_answered(run_dir, phantom, tmp_path):
    assert "no case 'la_05'; did you mean 'la_00" in error_of(run_dir / "model.pt", "la_001,la_05")
    assert "no case 'tset'; did you mean 'test'?" in error_of(run_dir / "model.pt", "tset")
    assert "no case '7'" in error_of(run_dir / "model.pt", 7)
    write_datalist(load_split(phantom, 3, 1), phantom, run_dir / "datalist.json")
    assert "The part 'test' of the split has no case" in error_of(run_dir / "model.pt", "test")
    assert "no data set in the Decathlon's layout" in error_of(run_dir / "model.pt", "all", tmp_path)
    assert "--dataset_dir DIR" in error_of(run_dir / "model.pt", "val", tmp_path)


def test_metrics_get_names_for_mlflow_and_undefined_ones_none():
    metrics = {"mean_dice": {"value": 0.5, "ci95": [0.4, 0.6]}, "volume_limits_lower_ml": {"value": None}}
    assert evaluation_metrics("test", metrics) == {"evaluation/test/mean_dice": 0.5}


def test_store_that_cannot_be_used_is_told_and_the_results_stay(run_dir, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")
    (run_dir / "mlflow.json").write_text(json.dumps({"run_id": "1", "status": "FINISHED"}))
    target = Target(run_dir / "model.pt", read_cases)
    metrics = {"mean_dice": {"value": 0.5, "ci95": None, "unit": None, "cases": 1}}
    content = {"bundle": "atrium", "checkpoint": {}, "dataset": {"cases": 1}, "metrics": metrics}
    (run_dir / "metrics.json").write_text(json.dumps(content))
    (run_dir / "cases.csv").write_text("case,dice\nla_003,0.5\n")
    evaluator = Engine(lambda engine, batch: None)
    monkeypatch.setattr(evaluator, "run", lambda: None)
    with pytest.raises(UserError, match=r"The MLflow store .* cannot be used") as caught:
        evaluation.run(evaluator, target, "unused", "atrium")
    assert f"The results are in {run_dir}, but not in MLflow" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
    assert "mean_dice" in capsys.readouterr().err
    assert json.loads((run_dir / "mlflow.json").read_text())["status"] == "FINISHED"
