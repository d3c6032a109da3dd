from __future__ import annotations

import json
import logging
import math
import os
import random
import socket
import time
from pathlib import Path

import mlflow
import pytest

from pipelines import __main__ as cli
from pipelines import tracking_outbox, tracking_store
from pipelines.errors import UserError
from pipelines.redact import redacted
from pipelines.runs import read_tracking
from pipelines.sync import sync
from pipelines.tracking import RunTracker
from pipelines.tracking_journal import Journal
from pipelines.tracking_store import patience


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(tracking_outbox, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(tracking_outbox, "RETRY_SHARE", 0)


def opened(run_dir: Path, uri: str) -> RunTracker:
    run_dir.mkdir(exist_ok=True)
    tracker = RunTracker(run_dir, "atrium", uri, tags={"bundle": "atrium"})
    tracker.open()
    return tracker


@pytest.fixture
def tracker(tmp_path, store):
    return opened(tmp_path / "run", store)


@pytest.fixture
def away(monkeypatch):
    """``away()`` lets the store vanish, ``away(False)`` lets it come back."""
    patch = pytest.MonkeyPatch()

    def unreachable(*_, **__):
        raise ConnectionError("nobody answers")

    def vanish(is_away=True):
        patch.undo()
        for name in ("log_batch", "get_run", "log_artifact", "update_run", "set_terminated", "log_inputs"):
            if is_away:
                patch.setattr(mlflow.MlflowClient, name, unreachable)

    yield vanish
    patch.undo()


def history(tracker: RunTracker, name: str) -> list[tuple[int, float]]:
    points = tracker.client.get_metric_history(tracker.run_id, name)
    return [(point.step, point.value) for point in points]


# ---- the journal


def test_a_line_that_a_kill_tore_costs_itself_alone(tmp_path):
    journal = Journal(tmp_path)
    journal.append({"kind": "tags", "values": {"a": "1"}})
    with open(journal.path, "a") as file:
        file.write('{"kind": "tags", "val')
    journal.append({"kind": "tags", "values": {"b": "2"}})
    assert journal.read() == [{"kind": "tags", "values": {"a": "1"}}, {"kind": "tags", "values": {"b": "2"}}]


@pytest.mark.parametrize(
    ("file", "folder"),
    [("../secret.txt", None), ("/etc/passwd", None), ("link.txt", None), ("cases.csv", "../../up")],
)
def test_a_journal_never_names_a_file_outside_the_run_folder(tmp_path, file, folder, caplog):
    (tmp_path / "secret.txt").write_text("of somebody else")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "link.txt").symlink_to(tmp_path / "secret.txt")
    journal = Journal(run_dir)
    journal.append({"kind": "artifact", "file": file, "folder": folder})
    journal.append({"kind": "artifact", "file": "cases.csv", "folder": None})
    assert [entry["file"] for entry in journal.read()] == ["cases.csv"]
    assert [entry["file"] for entry in journal.read()] == ["cases.csv"]
    assert caplog.text.count("no records of this run are passed over: 1") == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "unheard of"}',
        '{"kind": ["metrics"]}',
        '{"kind": "metrics", "values": [1], "step": 1, "time": 1}',
        '{"kind": "metrics", "values": {"a": "much"}, "step": 1, "time": 1}',
        '{"kind": "metrics", "values": {"a": 1}, "step": "first", "time": 1}',
        '{"kind": "datasets", "source": "x", "parts": {"val": 3}}',
        '{"kind": "tags", "values": {"a": {}}}',
        '{"kind": "status"}',
        "[1]",
        "\0\0",
    ],
)
def test_a_line_that_is_no_record_costs_itself_alone(tmp_path, line):
    whole = {"kind": "metrics", "values": {"a": 1.0}, "step": 1, "time": 1}
    (tmp_path / "unsent.jsonl").write_text(f"{line}\n{json.dumps(whole)}\n")
    assert Journal(tmp_path).read() == [whole]


def test_the_journal_is_json_whatever_the_numbers(tmp_path):
    journal = Journal(tmp_path)
    journal.append({"kind": "metrics", "values": {"a": math.nan, "b": -math.inf, "c": 0.1}})
    line = json.loads(journal.path.read_text(), parse_constant=lambda name: pytest.fail(name))
    values = [float(value) for value in line["values"].values()]
    assert math.isnan(values[0])
    assert values[1:] == [-math.inf, 0.1]


def test_a_file_from_elsewhere_is_kept_until_it_was_sent(tmp_path, tracker, away):
    picture = tmp_path / "epoch_001.png"
    picture.write_bytes(b"first")
    away()
    tracker.log_files(picture, folder="validation")
    picture.unlink()
    away(False)
    assert tracker.outbox.flush()
    local = tracker.client.download_artifacts(tracker.run_id, "validation/epoch_001.png")
    assert Path(local).read_bytes() == b"first"
    assert [path.name for path in tracker.run_dir.iterdir()] == ["mlflow.json"]


# ---- exactly once


@pytest.mark.parametrize("seed", range(4))
def test_each_metric_of_each_epoch_arrives_once_whatever_is_lost_on_the_way(
    seed, tmp_path, store, monkeypatch
):
    """Requests and answers are lost, and the process is killed after an epoch, which is then repeated or not."""
    original = mlflow.MlflowClient.log_batch
    draw = random.Random(seed)  # noqa: S311 - nothing secret

    def unsure(client, *args, **kwargs):
        fate = draw.choice(["arrives", "request lost", "answer lost"])
        if fate != "request lost":
            original(client, *args, **kwargs)
        if fate != "arrives":
            raise ConnectionError(fate)

    tracker, epoch = opened(tmp_path / "run", store), 1
    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", unsure)
    while epoch <= 6:
        tracker.log_metrics({"train/loss": 1 / epoch, "train/learning_rate": 0.1}, epoch)
        tracker.log_metrics({"val/loss": float("nan") if epoch == 2 else 2.0}, epoch)
        if draw.random() < 0.3:
            tracker = opened(tmp_path / "run", store)
            epoch -= draw.choice([0, 1])
        epoch += 1
    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", original)
    tracker.end("FINISHED")
    assert history(tracker, "train/loss") == [(n, 1 / n) for n in range(1, 7)]
    assert [step for step, _ in history(tracker, "train/learning_rate")] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in history(tracker, "val/loss")] == [1, 2, 3, 4, 5, 6]
    assert not tracker.outbox.journal.pending


def test_a_score_that_is_measured_again_is_logged_again(tracker, away):
    tracker.log_metrics({"evaluation/val/mean_dice": 0.5})
    away()
    tracker.log_metrics({"evaluation/val/mean_dice": 0.75})
    away(False)
    assert tracker.outbox.flush()
    assert [value for _, value in history(tracker, "evaluation/val/mean_dice")] == [0.5, 0.75]


def test_what_came_late_has_its_own_time(tracker, away):
    away()
    tracker.log_metrics({"train/loss": 0.5}, 1)
    (entry,) = tracker.outbox.journal.read()
    away(False)
    time.sleep(0.01)
    assert tracker.outbox.flush()
    (point,) = tracker.client.get_metric_history(tracker.run_id, "train/loss")
    assert point.timestamp == entry["time"]


def test_all_kinds_of_records_wait_and_arrive_in_their_order(tracker, away, store, tmp_path):
    (tracker.run_dir / "model.pt").write_bytes(b"weights")
    away()
    tracker.log_parameters({"lr": 0.1})
    tracker.log_parameters({"lr": 0.2})
    tracker.log_tags({"a": "first"})
    tracker.log_tags({"a": "second"})
    tracker.log_datasets({"test": [{"case": "x"}]}, "data/phantom")
    tracker.log_text("Traceback …", "traceback.txt")
    tracker.log_files(tracker.run_dir / "model.pt")
    tracker.log_model("atrium", 3, {"epoch": 3}, "text")
    tracker.log_metrics({"best/mean_dice": 0.5}, 3)
    tracker.end("FAILED")
    assert read_tracking(tracker.run_dir)["status"] == "FAILED"
    away(False)
    assert sync(tmp_path, store) == 10
    run = tracker.client.get_run(tracker.run_id)
    assert run.data.params == {"lr": "0.1"}
    assert run.data.tags["changed.lr"] == "from 0.1 to 0.2"
    assert run.data.tags["a"] == "second"
    assert run.info.status == "FAILED"
    assert [found.dataset.name for found in run.inputs.dataset_inputs] == ["phantom"]
    assert {item.path for item in tracker.client.list_artifacts(tracker.run_id)} == {
        "model.pt",
        "traceback.txt",
    }
    model = tracker.client.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert [(metric.key, metric.value) for metric in model.metrics] == [("best/mean_dice", 0.5)]


def test_a_model_is_made_once_however_often_it_is_logged(tracker):
    for epoch in (3, 5):
        tracker.log_model("atrium", epoch, {"epoch": epoch}, "text")
        tracker.outbox.delivery.forget()
    (output,) = tracker.client.get_run(tracker.run_id).outputs.model_outputs
    assert tracker.client.get_logged_model(output.model_id).tags["epoch"] == "5"
    assert len(tracker.client.search_logged_models([tracker.experiment.experiment_id])) == 1


# ---- a store that is away


def test_that_the_store_is_away_is_said_once_and_that_it_is_back_too(tracker, away, caplog):
    caplog.set_level(logging.INFO)
    away()
    for epoch in (1, 2, 3):
        tracker.log_metrics({"train/loss": 0.5}, epoch)
    away(False)
    tracker.log_metrics({"train/loss": 0.5}, 4)
    told = [message for message in caplog.messages if "MLflow store" in message]
    assert len(told) == 2
    assert "does not answer (nobody answers). What it misses waits in" in told[0]
    assert told[1] == "The MLflow store answers again and has everything."
    assert [step for step, _ in history(tracker, "train/loss")] == [1, 2, 3, 4]


def test_a_server_that_never_answers_does_not_stall_a_run_that_is_known(tmp_path, monkeypatch):
    for name in ("BRIEF", "PATIENT"):
        monkeypatch.setattr(tracking_outbox, name, 1)
        monkeypatch.setattr(tracking_store, name, 1, raising=False)
    monkeypatch.setattr(tracking_outbox, "RETRY_SHARE", 1000)
    (tmp_path / "mlflow.json").write_text(json.dumps({"run_id": "0" * 32, "experiment": "atrium"}))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        tracker = opened(tmp_path, uri)
        for epoch in range(100):
            tracker.log_metrics({"train/loss": 0.5}, epoch)
        # it was asked for the store and for the run, and waited for a second each time; MLflow's own way takes minutes
        silent.setblocking(False)
        for _ in range(2):
            silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert len(tracker.outbox.journal.read()) == 101


def test_samples_of_the_machine_wait_for_their_numbers_and_not_for_a_dead_server(tracker, away):
    tracker.log_metrics({"system/cpu": 1.0, "train/loss": 0.5}, 7)
    away()
    assert tracker.outbox.next_step("system/") is None
    tracker.log_metrics({"system/cpu": 2.0}, 8)
    away(False)
    assert tracker.outbox.next_step("system/") is None  # the one that waits comes first
    assert tracker.outbox.flush()
    assert tracker.outbox.next_step("system/") == 9
    assert tracker.outbox.next_step("none/") == 0


def test_a_new_run_needs_its_server(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        uri = f"http://someone:secret@127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="cannot be used: Connection refused") as refused:
        opened(tmp_path, uri)
    assert "secret" not in str(refused.value)


def test_what_the_store_refuses_is_told_and_does_not_keep_the_others(tracker, away, caplog):
    away()
    tracker.log_metrics({"no?such*name": 0.5}, 1)
    tracker.log_tags({"a": "b"})
    away(False)
    tracker.log_metrics({"train/loss": 0.5}, 1)
    assert "MLflow does not take some metrics of this run: Invalid value" in caplog.text
    assert history(tracker, "train/loss") == [(1, 0.5)]
    assert tracker.client.get_run(tracker.run_id).data.tags["a"] == "b"


def test_a_full_disk_costs_the_record_and_not_the_training(tracker, away, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    away()
    monkeypatch.setattr(os, "fsync", full)
    tracker.log_metrics({"train/loss": 0.5}, 1)
    assert "Some metrics of this run can be recorded nowhere: No space left on device" in caplog.messages


def test_sync_is_a_command_that_says_what_it_did(tracker, away, capsys, monkeypatch):
    away()
    tracker.log_metrics({"train/loss": 0.5}, 1)
    away(False)
    monkeypatch.setattr("sys.argv", ["cardiothorax", "sync", str(tracker.run_dir)])
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
    assert capsys.readouterr().out.splitlines() == ["1 record was sent.", "MLflow has everything already."]
    assert history(tracker, "train/loss") == [(1, 0.5)]


def test_sync_finds_a_run_by_its_name(tmp_path, store, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "atrium" / "short"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("bundle_root: bundles/atrium\n")
    opened(folder, store)
    for name, code, said in (("short", 0, "MLflow has everything"), ("shor", 1, "did you mean 'short'?")):
        monkeypatch.setattr("sys.argv", ["cardiothorax", "sync", name])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert (ended.value.code or 0) == code
        assert said in "".join(capsys.readouterr())


def test_sync_makes_no_new_run_in_a_store_that_does_not_have_it(tracker, away, store):
    away()
    tracker.log_metrics({"train/loss": 0.5}, 1)
    away(False)
    tracker.client.delete_run(tracker.run_id)
    known = read_tracking(tracker.run_dir)
    (tracker.run_dir / "mlflow.json").write_text(json.dumps(known | {"run_id": "0" * 32}))
    with pytest.raises(UserError, match=r"Run with id=0{32} not found[\s\S]*MLFLOW_TRACKING_URI"):
        sync(tracker.run_dir, store)
    assert len(tracker.outbox.journal.read()) == 1


def test_sync_makes_no_new_run_in_place_of_one_that_was_deleted(tracker, away, store):
    away()
    tracker.log_metrics({"train/loss": 0.5}, 1)
    away(False)
    tracker.client.delete_run(tracker.run_id)
    with pytest.raises(UserError, match=rf"was deleted[\s\S]*restore --run-id {tracker.run_id}`"):
        sync(tracker.run_dir, store)
    assert len(tracker.outbox.journal.read()) == 1


def test_sync_of_a_run_with_a_damaged_config_is_answered(tracker, away, store):
    away()
    tracker.log_metrics({"train/loss": 0.5}, 1)
    away(False)
    (tracker.run_dir / "config.yaml").write_text("tracking_uri: [")
    with pytest.raises(UserError, match=r"config\.yaml is damaged \(ParserError\)"):
        sync(tracker.run_dir, store)


def test_sync_of_no_folder_or_of_no_run_is_answered(tmp_path, store):
    with pytest.raises(UserError, match="There is no run folder"):
        sync(tmp_path / "nowhere", store)
    (tmp_path / "notes.json").touch()
    with pytest.raises(UserError, match="is no run folder and holds none"):
        sync(tmp_path, store)
    (tmp_path / "unsent.jsonl").write_text('{"kind": "tags", "values": {}}\n')
    with pytest.raises(UserError, match=r"mlflow\.json is gone or damaged"):
        sync(tmp_path, store)


def test_patience_leaves_what_the_user_has_set_and_cleans_up(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with patience(3):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://me:pw@host:5000/api failed", "at http://host:5000/api failed"),
        ("postgresql+psycopg2://me:p@w@db/x", "postgresql+psycopg2://db/x"),
        ("postgresql://me:p/w@db/x", "postgresql://db/x"),
        (
            "postgresql://db/x?user=me&password=pw&sslmode=on",
            "postgresql://db/x?user=me&password=&sslmode=on",
        ),
        ("http://host/a@b", "http://host/a@b"),
        ("someone@example.org", "someone@example.org"),
    ],
)
def test_names_and_passwords_of_addresses_are_not_shown(text, shown):
    assert redacted(text) == shown


def test_a_database_whose_driver_is_missing_is_answered(monkeypatch):
    def without_driver(**_):
        raise ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr(mlflow, "MlflowClient", without_driver)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match=r"postgresql://host/db cannot be used: No module named 'psycopg'"):
        tracking_store.prepare_store("postgresql://me:pw@host/db")
