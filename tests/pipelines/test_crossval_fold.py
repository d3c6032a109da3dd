"""What is left to do of a fold, and how folds run side by side, without a training."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from conftest import ROOT

from pipelines.crossval import processes
from pipelines.crossval.fold import run_fold
from pipelines.crossval.processes import FoldProcess, run_side_by_side, threads_of_each
from pipelines.errors import UserError
from pipelines.evaluation.results import write_results
from pipelines.files import write_json

# ---- what is left to do of a fold


@pytest.fixture
def job(tmp_path):
    return {
        "run_dir": str(tmp_path / "fold_1"),
        "held_out": ["a", "b"],
        "max_epochs": 3,
        "train_config": "train.yaml",
        "evaluate_config": "evaluate.yaml",
        "train": {"lr": 1},
        "resume": {"device": "cpu"},
        "evaluate": {"cases": "test"},
    }


@pytest.fixture
def done(monkeypatch):
    """What the fold had the bundle do."""
    calls = []
    monkeypatch.setattr("pipelines.launch.run_bundle", lambda config, **given: calls.append((config, given)))
    return calls


EVALUATION = ("evaluate.yaml", {"cases": "test"})


def state(job, tmp_path, epoch=None, status=None, scored=()):
    folder = tmp_path / "fold_1"
    folder.mkdir()
    write_json(folder / "mlflow.json", {"run_id": "1", "status": status})
    if epoch:
        torch.save({"epoch": epoch}, folder / "last.pt")
        torch.save({}, folder / "model.pt")
    if scored:
        table = pd.DataFrame({"case": list(scored), "dice": 1.0})
        write_results(folder, "atrium", folder / "model.pt", {}, table, {})
    return folder


def test_a_fold_that_was_never_started_is_trained_and_scored(job, done):
    run_fold(job)
    assert done == [("train.yaml", {"lr": 1}), EVALUATION]


def test_a_fold_stopped_in_its_first_epoch_starts_anew(job, done, tmp_path):
    folder = state(job, tmp_path, status="KILLED")
    run_fold(job)
    assert done == [("train.yaml", {"lr": 1}), EVALUATION]
    assert not folder.exists()


def test_a_fold_stopped_later_goes_on_with_what_it_was_started_with(job, done, tmp_path):
    folder = state(job, tmp_path, epoch=2, status="KILLED")
    run_fold(job)
    assert done == [("train.yaml", {"resume": str(folder), "device": "cpu"}), EVALUATION]


@pytest.mark.parametrize(("epoch", "status"), [(2, "FINISHED"), (3, "RUNNING")])
def test_a_trained_fold_is_only_scored_even_if_it_was_killed_before_it_said_so(
    job, done, tmp_path, epoch, status
):
    state(job, tmp_path, epoch=epoch, status=status)
    run_fold(job)
    assert done == [EVALUATION]


def test_a_scored_fold_is_left_alone(job, done, tmp_path):
    state(job, tmp_path, epoch=3, status="FINISHED", scored="ab")
    run_fold(job)
    assert done == []


def test_scores_of_other_cases_or_of_other_weights_do_not_count(job, done, tmp_path):
    folder = state(job, tmp_path, epoch=3, status="FINISHED", scored="ac")
    run_fold(job)
    table = pd.DataFrame({"case": ["a", "b"]})
    write_results(folder, "atrium", folder / "model.pt", {}, table, {})
    torch.save({"other": 1}, folder / "model.pt")
    run_fold(job)
    assert done == [EVALUATION, EVALUATION]


# ---- side by side


class Fake:
    """A fold that runs for some looks at it."""

    alive, most = 0, 0

    def __init__(self, fold, looks=2, code=0):
        self.fold, self.looks, self.code, self.error, self.stopped = fold, looks, code, "Error: mend it", ""
        Fake.alive += 1
        Fake.most = max(Fake.most, Fake.alive)

    def poll(self):
        self.looks -= 1
        if self.looks == 0:
            Fake.alive -= 1
        return self.code if self.looks <= 0 else None

    def stop(self):
        self.stopped += "stop "

    def wait(self):
        self.stopped += "wait"

    def kill(self):
        self.stopped += "kill"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(processes, "_PAUSE", 0)
    Fake.alive = Fake.most = 0


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_as_many_folds_as_asked_for_run_at_once_and_no_more(jobs):
    ended = []
    run_side_by_side([1, 2, 3, 4, 5], jobs, Fake, ended.append)
    assert Fake.most == jobs
    assert ended == [1, 2, 3, 4, 5]


def test_after_a_failure_no_fold_is_started_and_those_that_run_end():
    started, ended = [], []

    def start(fold):
        started.append(fold)
        return Fake(fold, code=int(fold == 2), looks=5 - fold)

    with pytest.raises(UserError, match=r"^Fold 2 failed: mend it$"):
        run_side_by_side([1, 2, 3, 4], 2, start, ended.append)
    assert (started, ended) == ([1, 2], [1])


def test_an_interrupt_stops_all_that_run_and_waits_for_them():
    running = []

    def start(fold):
        if fold == 3:
            raise KeyboardInterrupt
        running.append(Fake(fold, looks=99 if fold == 1 else 2))
        return running[-1]

    with pytest.raises(KeyboardInterrupt):
        run_side_by_side([1, 2, 3], 2, start, lambda fold: None)
    assert [fold.stopped for fold in running] == ["stop wait", ""]


def test_a_second_interrupt_ends_them_at_once(monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Fake, "wait", interrupt)
    running = []

    def start(fold):
        if fold == 2:
            raise KeyboardInterrupt
        running.append(Fake(fold, looks=99))
        return running[-1]

    with pytest.raises(KeyboardInterrupt):
        run_side_by_side([1, 2], 2, start, lambda fold: None)
    assert running[0].stopped == "stop kill"


def test_a_process_that_the_system_ended_is_said_to_be_so():
    with pytest.raises(
        UserError, match="Fold 1 failed: its process was ended by signal 9, as the system does"
    ):
        run_side_by_side([1], 1, lambda fold: Fake(fold, code=-9), lambda fold: None)


@pytest.mark.parametrize(
    ("cores", "jobs", "asked", "threads"),
    [
        (8, 1, "", 8),
        (8, 2, "", 4),
        (8, 3, "", 2),
        (2, 2, "", 1),
        (8, 2, "1", 1),
        (8, 2, "16", 4),
        (4, 1, "x", 4),
    ],
)
def test_threads_are_divided_and_what_the_environment_asks_for_is_not_exceeded(
    monkeypatch, cores, jobs, asked, threads
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads_of_each(jobs) == threads


def test_more_jobs_than_cores_are_refused(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    with pytest.raises(UserError, match="--jobs must be from 1 to the 2 cores that there are, got 3"):
        threads_of_each(3)


# ---- a process


def process(tmp_path, monkeypatch, script):
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(path))
    return FoldProcess(2, {"run_dir": "x"}, threads=3)


def ended(fold):
    for _ in range(500):
        if (code := fold.poll()) is not None:
            return code
        time.sleep(0.01)
    raise TimeoutError


def test_a_fold_gets_its_job_and_its_threads_and_its_error_is_heard(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    script = 'read job; echo "Epoch 1/3" >&2; printf "Error: $job\\n$OMP_NUM_THREADS $OMP_WAIT_POLICY\\n" >&2; exit 1'
    fold = process(tmp_path, monkeypatch, script)
    assert ended(fold) == 1
    assert fold.error == 'Error: {"run_dir": "x"}\n3 PASSIVE'


def test_the_end_of_an_unexpected_traceback_is_its_error(tmp_path, monkeypatch):
    fold = process(
        tmp_path, monkeypatch, 'read job; printf "Traceback\\n  line\\nValueError: odd\\n" >&2; exit 1'
    )
    assert ended(fold) == 1
    assert fold.error == "ValueError: odd"


def test_a_fold_that_is_asked_to_stop_gets_a_polite_request(tmp_path, monkeypatch):
    fold = process(tmp_path, monkeypatch, "trap 'exit 130' TERM; read job; echo Epoch 1/3 >&2; read more")
    time.sleep(0.3)
    fold.stop()
    fold.wait()
    assert ended(fold) == 130


def test_a_fold_whose_cross_validation_was_killed_stops_as_a_training_is_stopped():
    stand_in = (
        "import time\nfrom pipelines.crossval import fold\n"
        "fold.run_fold = lambda job: (print(job['run_dir'], flush=True), time.sleep(300))\nfold.main()"
    )
    command = [sys.executable, "-c", stand_in]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as fold:
        fold.stdin.write(b'{"run_dir": "x"}\n')
        fold.stdin.flush()
        assert fold.stdout.readline() == b"x\n"
        fold.stdin.close()  # as the system does when the parent is gone, even by SIGKILL
        assert fold.wait(timeout=60) == 130
