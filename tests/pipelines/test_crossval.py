"""Two-fold cross-validations of each bundle on tiny phantoms, through the command line and MONAI's own entry point."""

from __future__ import annotations

import json
import logging
import time
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
import torch
import yaml
from conftest import EDGES, RESNET, TINY, TINY_XRAYS, command, use_store

from pipelines.checkpoints import load
from pipelines.crossval import processes
from pipelines.evaluation.results import read_results
from pipelines.phantoms.xray import write_heart_phantom, write_pneumonia_phantom
from pipelines.registry import get_bundle
from pipelines.runs import read_tracking

ATRIUM = {
    name: value for name, value in TINY.items() if name not in ("train_cases", "val_cases", "max_epochs")
}
XRAY = {**TINY_XRAYS, "max_epochs": 2}


@pytest.fixture
def store(tmp_path, empty_store, monkeypatch, untouched):
    before = logging.getLogger("pipelines").level
    yield use_store(tmp_path, empty_store, monkeypatch)
    logging.getLogger("pipelines").setLevel(before)


def crossval(monkeypatch, tmp_path, bundle, data, *flags, **options):
    """Run the command and return its exit code and the folder."""
    options = {
        "folds": 2,
        "name": "cv",
        "dataset_dir": data,
        "output_dir": tmp_path / "runs",
        **options,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", as_word(value))]
    return command(monkeypatch, "crossval", bundle, *flags, *words), tmp_path / "runs" / "cv"


def as_word(value):
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def held_out(folder, fold):
    folds_of = json.loads((folder / "crossval.json").read_text())["folds_of"]
    return {name for name, of in folds_of.items() if of == fold}


def assert_honest(folder, part):
    """Assert that each fold scored what it held out, which it neither trained on nor, in ``test``, validated on."""
    pooled = read_results(folder)[1].set_index("case")
    for fold in (1, 2):
        run_dir = folder / f"fold_{fold}"
        split = json.loads((run_dir / "datalist.json").read_text())
        names = {side: {case["case"] for case in split[side]} for side in ("train", "val", "test")}
        assert names[part] == held_out(folder, fold)
        assert not names["train"] & names[part]
        scored = read_results(run_dir)[1].set_index("case")
        assert set(scored.index) == names[part]
        ours = pooled[pooled["fold"] == fold].drop(columns="fold")
        pd.testing.assert_frame_equal(ours.sort_index(), scored[ours.columns].sort_index(), check_dtype=False)


def assert_recorded(folder, uri, score, value):
    """Assert that MLflow has one run with the pooled scores, and one for each fold in it."""
    client = mlflow.MlflowClient(tracking_uri=uri)
    parent = client.get_run(read_tracking(folder)["run_id"])
    assert (parent.info.status, parent.data.tags["kind"], parent.info.run_name) == (
        "FINISHED",
        "crossval",
        "cv",
    )
    assert parent.data.metrics[f"evaluation/crossval/{score}"] == pytest.approx(value)
    assert parent.data.params["folds"] == "2"
    plan = json.loads((folder / "crossval.json").read_text())
    assert parent.data.tags["split.hash"] == plan["hash"]
    found = {path.path for path in client.list_artifacts(parent.info.run_id)}
    assert {"crossval.json", "config.yaml", "evaluation"} <= found
    assert "cross-validation in 2 folds" in parent.data.tags["mlflow.note.content"]
    (dataset,) = parent.inputs.dataset_inputs
    assert (dataset.dataset.digest, dataset.tags[0].value) == (plan["dataset"]["hash"][:8], "crossval")
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert {run.data.tags["fold"]: run.info.status for run in children} == {"1": "FINISHED", "2": "FINISHED"}
    assert {run.info.run_id for run in children} == {
        read_tracking(folder / f"fold_{fold}")["run_id"] for fold in (1, 2)
    }


def test_atrium_stopped_in_a_fold_goes_on_in_its_epoch_and_then_side_by_side(
    phantom, store, monkeypatch, tmp_path, capsys, caplog
):
    options = {**ATRIUM, "max_epochs": 8, "val_interval": 4}

    def interrupt(seconds):
        time.sleep(seconds)
        # an epoch's line comes before its checkpoint, so that of the first epoch is there
        if any(message.startswith("Fold 1  Epoch   2/8") for message in caplog.messages):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(processes, "time", SimpleNamespace(sleep=interrupt))
        code, folder = crossval(monkeypatch, tmp_path, "atrium", phantom, **options)
    assert code == 130
    assert "Stopped. The same command goes on from here, with --name cv." in caplog.messages
    stopped_at = load(folder / "fold_1" / "last.pt")["epoch"]
    assert 1 <= stopped_at < 8
    assert read_tracking(folder)["status"] == read_tracking(folder / "fold_1")["status"] == "KILLED"
    assert not (folder / "fold_2").exists()

    code, _ = crossval(monkeypatch, tmp_path, "atrium", phantom, **{**options, "lr": 0.01})
    assert code == 1
    assert "was begun with something else: lr was 0.001 and is 0.01." in capsys.readouterr().err

    monkeypatch.setattr(processes, "threads_of_each", lambda jobs: 1)  # also on a machine with one core
    caplog.clear()
    code, _ = crossval(monkeypatch, tmp_path, "atrium", phantom, **options, jobs=2)
    assert code == 0
    begun = [
        line
        for line in caplog.messages
        if line.startswith("Fold") and (" goes on:" in line or " starts:" in line)
    ]
    assert [line.split(":")[0] for line in begun] == ["Fold 1 of 2 goes on", "Fold 2 of 2 starts"]
    assert f"Resuming fold_1 after epoch {stopped_at}." in (folder / "fold_1" / "log.txt").read_text()
    content, cases = read_results(folder)
    assert list(cases)[:3] == ["case", "fold", "dice"]
    metric = content["metrics"]["mean_dice"]
    assert metric["value"] == pytest.approx(cases["dice"].mean(), rel=1e-4)
    by_fold = cases.groupby("fold")["dice"].mean()
    assert metric["folds"]["values"] == pytest.approx(by_fold.tolist(), rel=1e-4)
    assert metric["folds"]["sd"] == pytest.approx(by_fold.std(), rel=1e-3)
    assert "fold sd" in capsys.readouterr().out
    assert {path.name for path in (folder / "figures").iterdir()} == {"bland_altman.png", "dice_by_case.png"}
    assert_honest(folder, "test")
    assert_recorded(folder, store, "mean_dice", metric["value"])


def test_pneumonia_pools_calibrated_probabilities_with_intervals_over_patients(
    store, folds_here, monkeypatch, tmp_path
):
    write_pneumonia_phantom(tmp_path / "rsna", cases=40, seed=0, size=64)
    options = {**XRAY, "network_def": RESNET, "cache_dir": tmp_path / "cache", "val_cases": 8}
    code, folder = crossval(monkeypatch, tmp_path, "pneumonia", tmp_path / "rsna", **options)
    assert code == 0
    content, cases = read_results(folder)
    assert len(cases) == 40
    metrics = content["metrics"]
    assert {"auroc", "brier", "calibration_error", "sensitivity_balanced", "auroc_header_only"} <= set(
        metrics
    )
    assert metrics["auroc"]["ci95"] is not None
    labels = cases.groupby("fold")["label"].sum()
    assert abs(labels[1] - labels[2]) <= 1
    assert_honest(folder, "test")
    assert_recorded(folder, store, "auroc", metrics["auroc"]["value"])
    calibration = json.loads((folder / "fold_1" / "calibration.json").read_text())
    split = json.loads((folder / "fold_1" / "datalist.json").read_text())
    assert calibration["cases"] == len(split["val"])
    first = cases[cases["fold"] == 1]
    expected = torch.sigmoid(torch.tensor(first["logit"].to_numpy()) / calibration["temperature"])
    assert first["probability"].to_numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_cardiac_scores_the_last_epochs_weights_and_a_second_call_trains_nothing(
    store, folds_here, monkeypatch, tmp_path, caplog
):
    write_heart_phantom(tmp_path / "rsna", cases=8, seed=0, size=64)
    options = {**XRAY, "network_def": EDGES, "cache_dir": tmp_path / "cache"}
    words = ("cardiac", tmp_path / "rsna", "--last")
    code, folder = crossval(monkeypatch, tmp_path, *words, **options)
    assert code == 0
    content, _ = read_results(folder)
    assert {"mean_iou", "ratio_mae", "baseline_mean_iou"} <= set(content["metrics"])
    assert_honest(folder, "val")
    assert_recorded(folder, store, "mean_iou", content["metrics"]["mean_iou"]["value"])
    last = load(folder / "fold_1" / "last.pt")
    assert last["best"][1] == last["epoch"] == 2  # validated once, when nothing was left to choose
    weights = load(folder / "fold_1" / "model.pt")
    assert all(torch.equal(weights[name], value) for name, value in last["best_from"].items())

    def refuse(*_):
        raise AssertionError("a fold was run again")

    monkeypatch.setattr(processes, "FoldProcess", refuse)
    assert crossval(monkeypatch, tmp_path, *words, **options)[0] == 0
    assert read_results(folder)[0] == content
    # a table that was read from a file gives the metrics that it was written with
    written, table = read_results(folder / "fold_2")
    again = get_bundle("cardiac").metrics(table)
    assert list(again) == list(written["metrics"])
    values = {
        name: metric["value"] for name, metric in written["metrics"].items() if metric["value"] is not None
    }
    assert {name: again[name]["value"] for name in values} == pytest.approx(values, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "flags", "message"),
    [
        ({"max_epoch": 3}, (), "There is no setting 'max_epoch'; did you mean 'max_epochs'?"),
        (
            {"train#trainerr#amp": True},
            (),
            "There is no setting 'train::trainerr'; did you mean 'train::trainer'?",
        ),
        ({"lr": -1}, (), "lr must be a number above 0"),
        ({"train_cases": 3}, (), "train_cases cannot be set in this cross-validation: who trains follows"),
        ({"run_name": "x"}, (), "run_name cannot be set in this cross-validation: use --name"),
        (
            {"val_interval": 3},
            ("--last",),
            "val_interval cannot be set in this cross-validation: --last validates",
        ),
        ({"folds": 9}, (), "9 folds need at least as many patients, got 4"),
        ({"jobs": 999}, (), "--jobs must be from 1 to the"),
        ({"name": "a/b"}, (), "run_name must be a plain name without folders, got 'a/b'"),
        ({"dataset_dir": "/nowhere/heart"}, (), "no data set in the Decathlon's layout at /nowhere/heart"),
    ],
)
def test_a_mistake_is_answered_before_anything_is_made(
    phantom, store, monkeypatch, tmp_path, capsys, options, flags, message
):
    assert crossval(monkeypatch, tmp_path, "atrium", phantom, *flags, **options)[0] == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_setting_without_a_value_is_refused(phantom, store, monkeypatch, tmp_path, capsys):
    assert crossval(monkeypatch, tmp_path, "atrium", phantom, "--lr", "--max_epochs", "3")[0] == 1
    assert "expected settings as `--name value`, got `--lr` alone" in capsys.readouterr().err


def test_a_folder_that_is_something_else_is_left_alone(phantom, store, monkeypatch, tmp_path, capsys):
    (tmp_path / "runs" / "cv").mkdir(parents=True)
    code, folder = crossval(monkeypatch, tmp_path, "atrium", phantom)
    assert code == 1
    assert "exists already and is no cross-validation" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_fold_that_fails_says_why_and_other_settings_may_follow_where_none_got_anywhere(
    phantom, store, monkeypatch, tmp_path, capsys
):
    failed = SimpleNamespace(poll=lambda: 1, error="Error: mend it")
    monkeypatch.setattr(processes, "FoldProcess", lambda *_: failed)
    code, folder = crossval(monkeypatch, tmp_path, "atrium", phantom, lr=0.01)
    assert code == 1
    assert "Error: Fold 1 failed: mend it" in capsys.readouterr().err
    assert read_tracking(folder)["status"] == "FAILED"
    assert crossval(monkeypatch, tmp_path, "atrium", phantom, lr=0.02)[0] == 1
    assert yaml.safe_load((folder / "config.yaml").read_text())["lr"] == 0.02
