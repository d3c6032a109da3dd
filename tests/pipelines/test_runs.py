from __future__ import annotations

import os
import re

import pytest

from pipelines.errors import UserError
from pipelines.runs import existing_run_dir, new_run_dir, newest_finished, read_tracking, unique_name


def make_run(folder, status="FINISHED", files=("config.yaml", "last.pt", "model.pt")):
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("x")
    (folder / "mlflow.json").write_text(f'{{"run_id": "1", "status": "{status}"}}')
    return folder


def test_runs_started_in_the_same_second_hardly_share_a_name():
    names = {unique_name() for _ in range(50)}
    assert len(names) >= 49  # four hexadecimal digits: a collision among 50 has a chance of 2%
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", name) for name in names)


def test_a_new_run_gets_its_own_folder(tmp_path):
    first, second = (new_run_dir(tmp_path / "runs", None) for _ in range(2))
    assert first.is_dir()
    assert first != second
    assert new_run_dir(tmp_path / "runs", "mine") == tmp_path / "runs" / "mine"


@pytest.mark.parametrize("name", ["a/b", "..", "/absolute", "a/"])
def test_a_run_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="run_name must be a plain name without folders"):
        new_run_dir(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_that_cannot_be_made_is_told_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot make the run folder .*: Not a directory\. Set output_dir\."):
        new_run_dir(tmp_path / "file", None)


def test_a_checkpoint_in_a_run_folder_stands_for_the_folder(tmp_path):
    run = make_run(tmp_path / "a")
    assert existing_run_dir(run / "last.pt") == existing_run_dir(run) == run


def test_a_mistyped_run_folder_names_the_nearest(tmp_path):
    make_run(tmp_path / "20260101-101010-abcd")
    with pytest.raises(UserError, match=r"There is no run folder .*; did you mean '.*20260101-101010-abcd'"):
        existing_run_dir(tmp_path / "20260101-101010-abce")


def test_the_newest_finished_run_is_the_one_that_trained_last_whenever_it_was_best(tmp_path):
    for age, (name, status) in enumerate(
        [("a", "FINISHED"), ("b", "FINISHED"), ("c", "KILLED"), ("d", "RUNNING")]
    ):
        run = make_run(tmp_path / name, status)
        os.utime(run / "last.pt", (1000 + age, 1000 + age))
        os.utime(run / "model.pt", (900 - age, 900 - age))
    make_run(tmp_path / "e", files=["config.yaml"])  # finished, but without weights
    assert newest_finished(tmp_path) == tmp_path / "b"


def test_without_a_finished_run_the_two_ways_out_are_told(tmp_path):
    with pytest.raises(UserError, match=r"No finished training .*Train first, or .*--ckpt_path"):
        newest_finished(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_a_damaged_record_of_the_mlflow_run_counts_as_none(tmp_path, content):
    (tmp_path / "mlflow.json").write_text(content)
    assert read_tracking(tmp_path) == {}
