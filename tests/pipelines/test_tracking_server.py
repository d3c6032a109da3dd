"""Trainings against a real MLflow server on PostgreSQL, which is killed and started again while they go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
import torch
from conftest import ROOT, kept_logging, run_tiny
from servers import MlflowServer, postgres

from pipelines import tracking_outbox
from pipelines.errors import UserError
from pipelines.runs import read_tracking
from pipelines.sync import sync
from pipelines.tracking import RunTracker
from pipelines.training import Training

psycopg2 = pytest.importorskip("psycopg2", reason="the driver of PostgreSQL is not installed")
EPOCHS, VALIDATED = [1, 2, 3, 4, 5, 6], [2, 4, 6]


def at_epoch(patch: pytest.MonkeyPatch, epoch: int, action: Callable[[], None]) -> None:
    """Let ``action`` happen when an epoch of a training begins."""
    original = Training._seed_epoch

    def begin(training: Training, trainer: object) -> None:
        if trainer.state.epoch == epoch:
            action()
        original(training, trainer)

    patch.setattr(Training, "_seed_epoch", begin)


def interrupt() -> None:
    raise KeyboardInterrupt


def lose_an_answer(patch: pytest.MonkeyPatch) -> None:
    """Let the server receive the next metrics without the client being told."""
    original = mlflow.MlflowClient.log_batch

    def send(client: mlflow.MlflowClient, *args: object, **kwargs: object) -> None:
        original(client, *args, **kwargs)
        patch.setattr(mlflow.MlflowClient, "log_batch", original)
        raise ConnectionError("the answer was lost")

    patch.setattr(mlflow.MlflowClient, "log_batch", send)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as uri:
        yield uri


@pytest.fixture(scope="module")
def past(phantom: Path, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Two trainings of six epochs each, and what happened to their server.

    ``lost`` loses it for good in its third epoch. ``found`` loses an answer of it in its second, is interrupted in its
    third, resumed while there is no server, and finds it again in its fifth.
    """
    folder = tmp_path_factory.mktemp("server")
    server = MlflowServer(database, folder / "artifacts")
    with pytest.MonkeyPatch.context() as patch, kept_logging():
        patch.chdir(ROOT)
        patch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("://", "://someone:secret@"))
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
        patch.setattr(tracking_outbox, "RETRY_SECONDS", 0.0)
        patch.setattr(tracking_outbox, "RETRY_SHARE", 0)
        try:
            server.start()
            yield _lived_through(phantom, folder / "runs", server)
        finally:
            server.kill()


def _lived_through(phantom: Path, runs: Path, server: MlflowServer) -> SimpleNamespace:
    tiny = {"max_epochs": 6, "network_def#channels": [4, 4, 4]}
    with pytest.MonkeyPatch.context() as patch:
        at_epoch(patch, 2, lambda: lose_an_answer(patch))
        at_epoch(patch, 3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_tiny(phantom, runs, run_name="found", **tiny)
    with pytest.MonkeyPatch.context() as patch:
        at_epoch(patch, 3, server.kill)
        lost = run_tiny(phantom, runs, run_name="lost", **tiny)
    with RunTracker(lost, "atrium", server.uri).rejoined() as tracker:
        tracker.log_metrics({"evaluation/val/mean_dice": 0.25}, dataset=("phantom", "01234567"))
    waiting = [json.loads(line) for line in (lost / "unsent.jsonl").read_text().splitlines()]
    with pytest.raises(UserError) as refused:
        sync(lost, server.uri)
    with pytest.raises(UserError) as unstarted:
        run_tiny(phantom, runs, run_name="never", **tiny)
    with pytest.MonkeyPatch.context() as patch:
        at_epoch(patch, 5, server.start)
        found = run_tiny(phantom, runs, resume=str(runs / "found"))
    sent_by_itself = not (found / "unsent.jsonl").exists()
    return SimpleNamespace(
        found=found,
        lost=lost,
        waiting=waiting,
        refused=str(refused.value),
        unstarted=str(unstarted.value),
        sent_by_itself=sent_by_itself,
        sent=sync(runs, server.uri),
        again=sync(runs, server.uri),
        server=server,
        runs=runs,
    )


def points(database: str, run_dir: Path) -> dict[str, list[int]]:
    """Return the steps of every metric that the server's own database holds of a run."""
    with closing(psycopg2.connect(database.replace("+psycopg2", ""))) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT key, step FROM metrics WHERE run_uuid = %s AND key NOT LIKE 'system/%%' ORDER BY key, step",
            [read_tracking(run_dir)["run_id"]],
        )
        found: dict[str, list[int]] = {}
        for key, step in cursor:
            found.setdefault(key, []).append(step)
    return found


@pytest.mark.parametrize("name", ["found", "lost"])
def test_every_metric_of_every_epoch_is_in_the_database_once(past, database, name):
    run_dir = getattr(past, name)
    # the best so far was logged when `found` was interrupted, too
    best = {"found": [0, 0], "lost": [0]}[name]
    assert points(database, run_dir) == {
        "train/loss": EPOCHS,
        "train/learning_rate": EPOCHS,
        "val/loss": VALIDATED,
        "val/mean_dice": VALIDATED,
        "best/mean_dice": best,
        "best/epoch": best,
        **({"evaluation/val/mean_dice": [0]} if name == "lost" else {}),
    }


@pytest.mark.parametrize("name", ["found", "lost"])
def test_values_are_those_of_the_training_and_times_those_of_their_epochs(past, name):
    run_dir = getattr(past, name)
    history = torch.load(run_dir / "last.pt", weights_only=True)["history"]
    client = mlflow.MlflowClient(past.server.uri)
    for metric, measured in history.items():
        stored = client.get_metric_history(read_tracking(run_dir)["run_id"], metric)
        assert [[point.step, point.value] for point in stored] == measured
        assert [point.timestamp for point in stored] == sorted({point.timestamp for point in stored})


@pytest.mark.parametrize("name", ["found", "lost"])
def test_the_run_ends_as_its_training_did_with_all_its_files(past, name):
    run_dir = getattr(past, name)
    client = mlflow.MlflowClient(past.server.uri)
    run = client.get_run(read_tracking(run_dir)["run_id"])
    assert run.info.status == read_tracking(run_dir)["status"] == "FINISHED"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    folder = past.server.artifacts / run.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    for name in ("config.yaml", "datalist.json", "model.pt", "cases.csv", "figures/learning_curves.png"):
        assert (folder / name).read_bytes() == (run_dir / name).read_bytes()
    assert list((folder / "validation").glob("epoch_*.png"))
    assert not list(run_dir.glob("unsent*"))


def test_a_server_that_is_found_again_gets_everything_by_itself(past):
    assert past.sent_by_itself
    log = (past.found / "log.txt").read_text()
    assert log.count("The MLflow store does not answer") == 2  # a lost answer, and at the resume
    assert log.count("The MLflow store answers again and has everything.") == 2
    assert "(Connection refused)" in log


def test_what_a_lost_server_missed_waits_until_it_is_synced(past):
    assert {entry["kind"] for entry in past.waiting} >= {"metrics", "artifact", "status", "tags", "model"}
    assert "Nothing is lost: start the server" in past.refused
    assert past.sent == len(past.waiting)
    assert past.again == 0
    assert "python -m pipelines sync" in (past.lost / "log.txt").read_text()


def test_the_use_of_the_machine_is_logged_after_the_server_came_back(past):
    client = mlflow.MlflowClient(past.server.uri)
    samples = client.get_metric_history(
        read_tracking(past.found)["run_id"], "system/cpu_utilization_percentage"
    )
    steps = [sample.step for sample in samples]
    assert steps == list(range(len(steps)))
    loss = client.get_metric_history(read_tracking(past.found)["run_id"], "train/loss")
    assert samples[-1].timestamp > loss[4].timestamp


def test_a_new_training_needs_its_server(past):
    assert "no MLflow server answers" in past.unstarted
    assert not (past.runs / "never").exists()


def test_neither_logs_nor_run_folders_hold_the_password(past):
    texts = [
        path for path in past.runs.rglob("*") if path.suffix in (".txt", ".json", ".jsonl", ".yaml", ".csv")
    ]
    assert len(texts) > 8
    assert not [path for path in texts if "secret" in path.read_text()]


def test_the_best_weights_are_a_model_with_its_scores(past):
    client = mlflow.MlflowClient(past.server.uri)
    for run_dir in (past.found, past.lost):
        run = client.get_run(read_tracking(run_dir)["run_id"])
        (output,) = run.outputs.model_outputs
        model = client.get_logged_model(output.model_id)
        assert (model.name, model.status, model.tags["key_metric"]) == ("atrium", "READY", "mean_dice")
        assert {m.key: m.value for m in model.metrics}["best/mean_dice"] == run.data.metrics["best/mean_dice"]
        assert output.step == run.data.metrics["best/epoch"]
