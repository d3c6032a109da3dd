"""Each benchmark from the command's own function on tiny phantoms; how fast anything is, no test asks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import EDGES, RESNET, ROOT, TINY, TINY_XRAYS, command

from pipelines.benchmarks import bundle as bundles
from pipelines.benchmarks import memory, meter, predict, startup
from pipelines.benchmarks.predict import benchmark_predict
from pipelines.benchmarks.run import run_benchmark
from pipelines.benchmarks.train import benchmark_train
from pipelines.errors import UserError
from pipelines.evaluation.results import METRICS_FILE
from pipelines.phantoms.xray import write_heart_phantom, write_pneumonia_phantom
from pipelines.registry import get_bundle
from pipelines.runs import CROSSVAL

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
    *((f"of a step: {part}", "network alone") for part in meter.PARTS),
    ("validation's share of a training", ""),
]


def parts_of(*names):
    rest = "files, bar, summary and the rest"
    return [(f"of a case: {name}", "network alone") for name in (*names, rest)]


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
    step_ms = sum(figure.value for figure in found.figures if figure.name.startswith("of a step: "))
    steps = found.settings["images"] / SMALL["batch_size"]
    loop = next(figure.value for figure in found.figures if figure.name == "loop")
    assert step_ms * steps / 1000 == pytest.approx(found.settings["images"] / loop, rel=0.01)


@pytest.mark.parametrize("engine", ["pytorch", "onnxruntime"])
def test_prediction_of_xrays_is_measured(stores, xrays, engine):
    given = {"network_def": RESNET, "size": 32, "device": "cpu"}
    found = benchmark_predict(get_bundle("pneumonia"), xrays / "pneumonia", 1, 3, engine, **given)
    expected = [("network alone", ""), ("prediction", "network alone")]
    expected += [("network in PyTorch", engine)] * (engine != "pytorch")
    assert numbers(found) == expected + parts_of(
        *("network in the prediction", "reading and preprocessing", "measuring", "drawing", "PNG and record")
    )
    assert found.settings == {"rounds": 1, "cases": 3, "engine": engine, "device": "cpu"}
    assert len(list(stores.glob("out/*/summary.csv"))) == 3  # to warm up, to know the shapes, and the round


def test_a_file_that_cannot_be_predicted_is_named_with_its_reason(stores, xrays, tmp_path):
    shutil.copytree(xrays / "pneumonia/stage_2_train_images", tmp_path / "some")
    first = min((tmp_path / "some").iterdir())
    first.write_bytes(first.read_bytes()[:1500])
    given = {"network_def": RESNET, "size": 32, "device": "cpu"}
    with pytest.raises(UserError, match=f"predicted, 1 cannot, the first of them {first.stem}: .+"):
        benchmark_predict(get_bundle("pneumonia"), tmp_path / "some", 1, **given)


def test_every_network_of_an_ensemble_is_measured(stores, xrays, tmp_path, monkeypatch):
    given = {"network_def": RESNET, "size": 32, "device": "cpu"}
    weights = predict._weights(get_bundle("pneumonia"), tmp_path, given)
    for fold in ("fold_1", "fold_2"):
        (tmp_path / "cv" / fold).mkdir(parents=True)
        shutil.copy(weights, tmp_path / "cv" / fold / "model.pt")
    (tmp_path / "cv" / CROSSVAL).write_text('{"folds": 2}')
    (tmp_path / "cv" / METRICS_FILE).write_text("{}")
    asked, made = [], predict._networks
    monkeypatch.setattr(predict, "_networks", lambda *args: asked.append(args) or made(*args))
    benchmark_predict(get_bundle("pneumonia"), xrays / "pneumonia", 1, 3, ckpt_path=tmp_path / "cv", **given)
    networks, calls, _ = asked[0]
    assert len(networks) == 2
    assert [(call.network, call.shape) for call in calls] == [(0, (3, 1, 32, 32)), (1, (3, 1, 32, 32))]


def test_prediction_of_a_volume_is_measured(stores, phantom):
    given = {name: TINY[name] for name in ("network_def", "pixdim", "planes", "slice_offsets", "device")}
    found = benchmark_predict(get_bundle("atrium"), phantom / "imagesTr", 1, **given)
    expected = [("network alone", ""), ("prediction", "network alone")]
    whole = ("reading", "preprocessing", "postprocessing", "measuring", "mask", "overlay")
    assert numbers(found) == expected + parts_of("network in the prediction", *whole)


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
    with pytest.raises(UserError, match="engine must be one of pytorch, openvino, onnxruntime, got ''"):
        run_benchmark("predict", get_bundle("atrium"), engine="")


@pytest.mark.parametrize(
    ("kind", "option", "takes"),
    [
        ("train", {"engine": "openvino"}, "--dataset_dir, --rounds, --images, --quick"),
        ("prepare", {"images": 20}, "--dataset_dir, --rounds, --quick"),
        ("startup", {"dataset_dir": Path("x")}, "--rounds"),
        ("startup", {"quick": True}, "--rounds"),
        ("memory", {"rounds": 3}, "--quick"),
    ],
)
def test_an_option_without_effect_on_a_benchmark_is_refused(kind, option, takes):
    message = f"--{next(iter(option))} has no effect on `benchmark {kind}`, which takes {takes}."
    with pytest.raises(UserError, match=re.escape(message)):
        run_benchmark(kind, get_bundle("pneumonia"), **option)


@pytest.mark.parametrize(
    ("kind", "given", "answer"),
    [
        ("train", {"quick": True, "images": 100}, "--quick and --images both say how many"),
        ("train", {"images": 15}, "--images must be 16 or more for `benchmark train`, got 15"),
        ("predict", {"ckpt_path": Path("nowhere.pt")}, "There is no checkpoint nowhere.pt"),
    ],
)
def test_what_cannot_be_measured_is_told_before_phantoms_are_made(kind, given, answer, monkeypatch):
    def too_late(*_):
        raise AssertionError

    for module in (bundles, predict):
        monkeypatch.setattr(module, "phantom", too_late)
    with pytest.raises(UserError, match=answer):
        run_benchmark(kind, get_bundle("pneumonia"), **given)


def test_a_polite_request_to_stop_ends_a_benchmark_as_ctrl_c_does(monkeypatch):
    monkeypatch.setattr("pipelines.benchmarks.run._measure", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        run_benchmark("startup", get_bundle("atrium"))


def test_a_process_that_fails_is_told_with_its_last_words():
    with pytest.raises(UserError, match=r"timed as 'bad' ended with code 1:\nno disk"):
        startup.timed_in_turns({"bad": ["-c", "raise SystemExit('no disk')"]}, rounds=1)


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
    knobs["whole_run::extras"] = startup.STOP
    monkeypatch.setattr(sys, "argv", ["-c", "bundles/atrium/train.yaml", json.dumps(knobs)])
    with pytest.raises(RuntimeError) as failed:
        startup.run_as_a_fold()
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


@pytest.mark.parametrize(("device", "expected"), [("cuda:0", 1), ("cpu", 0)])
def test_the_clock_waits_for_what_a_gpu_was_asked_to_do(device, expected, monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(1))
    assert meter.now(device) > 0
    assert len(waits) == expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the peak is what getrusage says")
def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it():
    code = "from pipelines.benchmarks.memory import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        5e6 < int(done.stdout) < memory.peak_memory() / 2
    )  # this process has torch and monai, that one has not


def test_a_folder_for_temporary_files_that_is_not_there_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with pytest.raises(UserError, match="expected a folder that can be written as TMPDIR"), bundles.scratch():
        pass


def test_a_benchmark_leaves_no_folder_and_restores_the_tracking_uri(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    with bundles.scratch() as folder:
        assert "MLFLOW_TRACKING_URI" not in os.environ
    assert not folder.exists()
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///mine.db"
