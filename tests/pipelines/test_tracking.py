from __future__ import annotations

import json
import subprocess
from pathlib import Path

import mlflow
import pytest

from pipelines import environment, tracking
from pipelines.environment import environment_tags
from pipelines.errors import UserError
from pipelines.runs import read_tracking
from pipelines.sync import sync
from pipelines.tracking import RunTracker
from pipelines.tracking_store import prepare_store


@pytest.fixture
def tracker(tmp_path, store):
    return opened(tmp_path / "run_a", store)


def opened(run_dir, store):
    run_dir.mkdir(exist_ok=True)
    tracker = RunTracker(run_dir, "atrium", store, tags={"bundle": "atrium"})
    tracker.open()
    return tracker


def stored(tracker):
    return mlflow.MlflowClient(tracker.client.tracking_uri).get_run(tracker.run_id)


def test_a_run_folder_is_one_mlflow_run_of_its_name(tracker):
    run = stored(tracker)
    assert run.info.run_name == "run_a"
    assert run.info.status == "RUNNING"
    assert run.data.tags["bundle"] == "atrium"
    assert read_tracking(tracker.run_dir) == {
        "run_id": tracker.run_id,
        "experiment": "atrium",
        "status": "RUNNING",
    }


def test_another_folder_never_joins_a_run_that_is_still_running(tracker, store, tmp_path):
    assert opened(tmp_path / "run_b", store).run_id != tracker.run_id


def test_the_same_folder_rejoins_its_run(tracker, store):
    tracker.end("KILLED")
    assert stored(tracker).info.status == "KILLED"
    again = opened(tracker.run_dir, store)
    assert again.run_id == tracker.run_id
    assert stored(again).info.status == "RUNNING"


@pytest.mark.parametrize("how", ["deleted", "another store"])
def test_a_run_that_is_gone_from_the_store_is_made_anew_and_said(tracker, store, tmp_path, caplog, how):
    if how == "deleted":
        tracker.client.delete_run(tracker.run_id)
    else:
        content = read_tracking(tracker.run_dir)
        (tracker.run_dir / "mlflow.json").write_text(json.dumps(content | {"run_id": "0" * 32}))
    again = opened(tracker.run_dir, store)
    assert again.run_id not in (tracker.run_id, "0" * 32)
    assert "The MLflow run of run_a is gone from the store; a new one is made." in caplog.messages


def test_a_deleted_experiment_is_a_mistake_a_person_can_mend(tracker, store):
    tracker.client.delete_experiment(tracker.experiment.experiment_id)
    with pytest.raises(UserError, match=r"deleted experiment 'atrium'[\s\S]*mlflow experiments restore"):
        opened(tracker.run_dir, store)


def test_the_environment_variable_goes_before_the_argument(tracker, tmp_path):
    other = RunTracker(tracker.run_dir, "atrium", f"sqlite:///{tmp_path / 'other.db'}")
    assert other.client.tracking_uri == tracker.client.tracking_uri
    assert not (tmp_path / "other.db").exists()


def test_without_the_variable_the_argument_counts(store, monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert opened(tmp_path / "run", store).client.tracking_uri == store


@pytest.mark.parametrize("status", ["FINISHED", "KILLED", "FAILED"])
def test_an_evaluation_leaves_the_run_in_the_state_it_had(tracker, status):
    tracker.end(status)

    def evaluate():
        with tracker.rejoined():
            assert stored(tracker).info.status == "RUNNING"
            assert read_tracking(tracker.run_dir)["status"] == status  # should it be killed now
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate()
    assert stored(tracker).info.status == read_tracking(tracker.run_dir)["status"] == status


def test_an_evaluation_leaves_a_run_its_duration(tracker, store):
    tracker.end("FINISHED", 1_000)
    with RunTracker(tracker.run_dir, "atrium", store).rejoined():
        pass
    run = stored(tracker)
    assert (run.info.status, run.info.end_time) == ("FINISHED", 1_000)


def test_a_parameter_of_a_resumed_run_that_changed_becomes_a_tag(tracker):
    tracker.log_parameters({"max_epochs": 3, "planes": [0, 1], "run_name": None})
    tracker.log_parameters({"max_epochs": 5, "planes": [0, 1], "run_name": None, "new": 1})
    run = stored(tracker)
    assert run.data.params == {"max_epochs": "3", "planes": "[0, 1]", "run_name": "None", "new": "1"}
    assert run.data.tags["changed.max_epochs"] == "from 3 to 5"
    assert "changed.planes" not in run.data.tags


def test_a_long_parameter_is_cut_and_not_refused(tracker):
    tracker.log_parameters({"cases": ["x" * 100] * 100})
    assert len(stored(tracker).data.params["cases"]) == tracking.PARAM_LENGTH


def test_the_parts_of_the_data_are_inputs_once_however_often_a_run_is_resumed(tracker):
    parts = {"train": [{"case": "a"}, {"case": "b"}], "val": [{"case": "c"}]}
    for _ in range(2):
        found = tracker.log_datasets(parts, "/data/someone/data/Task02_Heart")
    inputs = stored(tracker).inputs.dataset_inputs
    assert {(i.tags[0].value, i.dataset.name, i.dataset.digest, i.dataset.profile) for i in inputs} == {
        ("train", *found["train"], '{"num_rows": 2}'),
        ("val", *found["val"], '{"num_rows": 1}'),
    }
    assert found["train"][0] == found["val"][0] == "Task02_Heart"
    assert found["train"][1] != found["val"][1]
    assert len(inputs) == 2
    assert all("someone" not in i.dataset.source for i in inputs)


def test_files_that_are_not_there_are_passed_over(tracker, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    tracker.log_files(tmp_path / "a.txt", tmp_path / "b.txt", folder="x")
    assert [file.path for file in tracker.client.list_artifacts(tracker.run_id, "x")] == ["x/a.txt"]


def test_a_metric_that_is_not_a_number_is_logged_as_such(tracker):
    tracker.log_metrics({"a": float("nan"), "b": 0.5, "c": None}, step=3)
    assert stored(tracker).data.metrics["b"] == 0.5
    assert set(stored(tracker).data.metrics) == {"a", "b"}


def test_the_run_folder_knows_its_end_even_when_the_store_does_not_answer(tracker, monkeypatch, store):
    def unreachable(*_):
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(tracker.client, "set_terminated", unreachable)
        tracker.end("FINISHED")
    assert read_tracking(tracker.run_dir)["status"] == "FINISHED"
    assert stored(tracker).info.status == "RUNNING"
    assert sync(tracker.run_dir, store) == 1
    assert stored(tracker).info.status == "FINISHED"


@pytest.mark.parametrize("uri", ["./mlruns", "nonsense://x", "sqlite:////proc/no/mlflow.db"])
def test_a_store_that_cannot_be_used_is_told_in_two_lines(monkeypatch, uri):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(
        UserError, match=r"The MLflow store .* cannot be used: .*\nMend tracking_uri"
    ) as refused:
        prepare_store(uri)
    assert len(str(refused.value).splitlines()) == 2


def test_a_damaged_database_is_told(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_text("this is no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(UserError, match="file is not a database"):
        prepare_store("sqlite:///ignored.db")


def test_the_environment_names_code_versions_and_kind_of_machine_but_no_host(monkeypatch):
    import platform

    tags = environment_tags()
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(environment.__file__).parent, capture_output=True, text=True
    ).stdout.strip()
    assert tags["git.commit"] == (commit or "unknown")
    assert tags["git.dirty"] in ("true", "false", "unknown")
    assert tags["version.python"] == platform.python_version()
    assert platform.node() not in " ".join(tags.values())


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment_tags()["git.commit"] == environment_tags()["git.dirty"] == "unknown"
