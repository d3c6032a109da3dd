"""Each benchmark from the command's own function on tiny phantoms; how fast anything is, no test asks."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import EDGES, RESNET, ROOT, TINY, TINY_XRAYS, command

from pipelines.benchmarks import bundle as bundles
from pipelines.benchmarks import memory, startup
from pipelines.benchmarks.predict import benchmark_predict
from pipelines.benchmarks.run import run_benchmark
from pipelines.benchmarks.train import benchmark_train
from pipelines.errors import UserError
from pipelines.phantoms.xray import write_heart_phantom, write_pneumonia_phantom
from pipelines.registry import get_bundle

SMALL = {**TINY_XRAYS, "train_cases": 9, "val_cases": 2}


@pytest.fixture(autouse=True)
def here(monkeypatch, untouched):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def stores(tmp_path, empty_store, monkeypatch):
    """Let benchmarks find their MLflow stores made, which takes seconds."""

    @contextmanager
    def scratch():
        for name in ("mlflow.db", "plain.db"):
            shutil.copy(empty_store, tmp_path / name)
        yield tmp_path

    for module in ("train", "predict"):
        monkeypatch.setattr(f"pipelines.benchmarks.{module}.scratch", scratch)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def xrays(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xrays")
    write_pneumonia_phantom(folder / "pneumonia", cases=12, size=64)
    write_heart_phantom(folder / "cardiac", cases=12, size=64)
    return folder


def numbers(found):
    assert all(figure.value > 0 for figure in found.figures)
    assert all(figure.ratio is None or figure.ratio > 0 for figure in found.figures)
    return [(figure.name, figure.against) for figure in found.figures]


TRAIN = [
    ("network alone", ""),
    ("loop", "network alone"),
    ("plain MONAI bundle", "its own network alone"),
    ("loop", "plain MONAI bundle"),
    ("validation's share of a training", ""),
]


def test_training_of_the_atrium_is_measured_with_everything_on(stores, phantom):
    given = {**TINY, "whole_run#extras": []}
    del given["max_epochs"]
    found = benchmark_train(get_bundle("atrium"), phantom, rounds=2, images=8, **given)
    assert numbers(found) == TRAIN
    assert found.settings["images"] == 8
    run = stores / "runs" / "benchmark"
    assert json.loads((run / "mlflow.json").read_text())["status"] == "FINISHED"
    assert (run / "last.pt").is_file()


@pytest.mark.parametrize("name", ["pneumonia", "cardiac"])
def test_training_on_xrays_is_measured(stores, xrays, name):
    found = benchmark_train(
        get_bundle(name),
        xrays / name,
        rounds=1,
        images=8,
        **SMALL,
        network_def=RESNET if name == "pneumonia" else EDGES,
        cache_dir=str(stores / "cache"),
    )
    assert numbers(found) == TRAIN


@pytest.mark.parametrize("engine", ["pytorch", "onnxruntime"])
def test_prediction_of_xrays_is_measured(stores, xrays, engine):
    given = {"network_def": RESNET, "size": 32, "device": "cpu"}
    found = benchmark_predict(get_bundle("pneumonia"), xrays / "pneumonia", 1, 3, engine, **given)
    expected = [("network alone", ""), ("prediction", "network alone")]
    assert numbers(found) == expected + [("network in PyTorch", engine)] * (engine != "pytorch")
    assert found.settings == {"rounds": 1, "cases": 3, "engine": engine, "device": "cpu"}
    assert len(list(stores.glob("out/*/summary.csv"))) == 3  # to warm up, to know the shapes, and the round


def test_prediction_of_a_volume_is_measured(stores, phantom):
    given = {name: TINY[name] for name in ("network_def", "pixdim", "planes", "slice_offsets", "device")}
    found = benchmark_predict(get_bundle("atrium"), phantom / "imagesTr", 1, **given)
    assert numbers(found) == [("network alone", ""), ("prediction", "network alone")]


def test_preparing_is_measured_by_the_command(monkeypatch, capsys, xrays):
    words = ["benchmark", "prepare", "pneumonia", "--dataset_dir", str(xrays / "pneumonia"), "--rounds", "1"]
    assert command(monkeypatch, *words, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["benchmark"], content["bundle"], content["settings"]["files"]) == (
        "prepare",
        "pneumonia",
        12,
    )
    assert content["figures"][1]["name"] == "prepare"
    assert content["figures"][1]["reach"] == "at most 2"


def test_a_benchmark_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="There is no benchmark 'trian'; did you mean 'train'"):
        run_benchmark("trian", get_bundle("atrium"))
    with pytest.raises(UserError, match="needs no `prepare`"):
        run_benchmark("prepare", get_bundle("atrium"))
    with pytest.raises(UserError, match="engine must be one of pytorch, openvino, onnxruntime, got 'foo'"):
        run_benchmark("predict", get_bundle("atrium"), engine="foo")


@pytest.mark.parametrize(
    ("kind", "option", "takes"),
    [
        ("train", {"engine": "openvino"}, "--dataset_dir, --rounds, --images"),
        ("prepare", {"images": 20}, "--dataset_dir, --rounds"),
        ("startup", {"dataset_dir": Path("x")}, "--rounds"),
        ("memory", {"rounds": 3}, "none of them"),
    ],
)
def test_an_option_without_effect_on_a_benchmark_is_refused(kind, option, takes):
    message = f"--{next(iter(option))} has no effect on `benchmark {kind}`, which takes {takes}."
    with pytest.raises(UserError, match=re.escape(message)):
        run_benchmark(kind, get_bundle("pneumonia"), **option)


def test_startup_times_each_command_once_a_round():
    seconds = startup.timed_in_turns({"nothing": ["-c", "pass"], "more": ["-c", "import json"]}, rounds=2)
    assert {name: len(times) for name, times in seconds.items()} == {"nothing": 2, "more": 2}
    assert min(min(times) for times in seconds.values()) > 0


def test_a_training_ends_with_its_first_step_where_startup_is_timed(phantom, store, tmp_path, monkeypatch):
    class EndedError(Exception):
        pass

    def end(code):
        raise EndedError(code)

    monkeypatch.setattr(os, "_exit", end)
    knobs = {**TINY, "dataset_dir": str(phantom), "output_dir": str(tmp_path / "runs"), "run_name": "run"}
    monkeypatch.setattr(sys, "argv", ["-c", "bundles/atrium/train.yaml", json.dumps(knobs)])
    with pytest.raises(RuntimeError) as failed:
        startup.first_step()
    cause = failed.value
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert isinstance(cause, EndedError)
    assert not (tmp_path / "runs" / "run" / "last.pt").exists()


@pytest.mark.parametrize("name", ["atrium", "pneumonia", "cardiac"])
def test_memory_of_a_training_counts_what_is_cached(name, phantom, xrays, tmp_path, capsys, store):
    source = phantom if name == "atrium" else xrays / name
    overrides = {**TINY, "patch_size": [16, 16, 16]} if name == "atrium" else {"size": 32, "batch_size": 4}
    overrides |= {"tracking_uri": store, "device": "cpu"}
    del overrides["train_cases" if name == "atrium" else "tracking_uri"]
    overrides.pop("val_cases", None)
    job = {"cases": 6, "folder": str(tmp_path), "source": str(source), "overrides": overrides}
    memory.child("train", name, json.dumps(job))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["peak"] > 100e6  # torch alone takes more
    if name != "atrium":
        assert found["cached"] == 6 * 32 * 32


def test_memory_of_a_prediction_is_measured(xrays, tmp_path, capsys):
    overrides = {"network_def": RESNET, "size": 32, "device": "cpu"}
    job = {"cases": 2, "folder": str(tmp_path), "source": str(xrays / "pneumonia"), "overrides": overrides}
    memory.child("predict", "pneumonia", json.dumps(job))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cached"] == 0


def test_a_benchmark_leaves_no_folder_and_restores_the_tracking_uri(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    with bundles.scratch() as folder:
        assert "MLFLOW_TRACKING_URI" not in os.environ
    assert not folder.exists()
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///mine.db"
