"""docs/add-a-task.md, followed to the letter in a copy of the project's configs."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import mlflow
import pytest
from conftest import EDGES, RESNET, ROOT, TINY, TINY_XRAYS, command, use_store

import pipelines.datasets
from pipelines.benchmarks import memory
from pipelines.benchmarks.predict import benchmark_predict
from pipelines.benchmarks.train import benchmark_train
from pipelines.errors import UserError
from pipelines.launch import run_bundle
from pipelines.registry import get_bundle

PAGE = (ROOT / "docs" / "add-a-task.md").read_text(encoding="utf-8")
(MODULE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FOLDER, VOLUME_FOLDER, BOX_FOLDER, TRIAL = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store, untouched):
    """A copy of the bundles and of mlflow.yaml, with the page's layout beside the project's own."""
    level = logging.getLogger("pipelines").level
    use_store(tmp_path, empty_store, monkeypatch)
    shutil.copytree(ROOT / "bundles", tmp_path / "bundles")
    shutil.copy(ROOT / "mlflow.yaml", tmp_path)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "view.py").write_text(MODULE)
    monkeypatch.setattr(
        pipelines.datasets, "__path__", [*pipelines.datasets.__path__, str(tmp_path / "datasets")]
    )
    monkeypatch.delitem(sys.modules, "pipelines.datasets.view", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    logging.getLogger("pipelines").setLevel(level)


def say(monkeypatch, line):
    """Run a line of the page in this process."""
    words = line.split()
    assert words[:2] == ["python", "-m"]
    if words[2] == "pipelines":
        assert command(monkeypatch, *words[3:]) == 0
    else:
        assert words[2:4] == ["monai.bundle", "run"]
        given = dict(zip(words[4::2], words[5::2], strict=True))
        values = {name.lstrip("-"): int(v) if v.isdigit() else v for name, v in given.items()}
        run_bundle(values.pop("config_file"), **values, device="cpu")


gnu_sed = pytest.mark.skipif(sys.platform != "linux", reason="the page uses GNU sed")


@gnu_sed
def test_the_page_makes_a_task_that_trains_evaluates_and_predicts(project, monkeypatch):
    subprocess.run(["bash", "-euc", FOLDER], check=True, cwd=project)
    for line in TRIAL.splitlines():
        say(monkeypatch, line)
    metrics = json.loads((project / "runs" / "view" / "first" / "metrics.json").read_text())
    assert metrics["bundle"] == "view"
    assert 0 <= metrics["metrics"]["auroc"]["value"] <= 1
    assert "AUROC" in (project / "runs" / "view" / "first" / "report.html").read_text()
    results = [json.loads(path.read_text()) for path in Path("predictions/view").glob("*/result.json")]
    assert len(results) == 10
    assert {record["bundle"] for record in results} == {"view"}
    assert all(0 <= record["result"]["probability"] <= 1 for record in results)


@gnu_sed
def test_every_other_command_knows_the_task(project, monkeypatch, empty_store, folds_here, capsys):
    subprocess.run(["bash", "-euc", FOLDER], check=True, cwd=project)
    get_bundle("view").function("phantom")(project / "data" / "views", 24, 0, 64)
    settings = {**TINY_XRAYS, "max_epochs": 1, "train_cases": 14, "val_cases": 8, "network_def": RESNET}
    run_bundle("bundles/view/train.yaml", **settings, run_name="first")
    say(monkeypatch, "python -m monai.bundle run --config_file bundles/view/evaluate.yaml")
    assert command(monkeypatch, "sync", "runs/view") == 0

    del settings["train_cases"]
    words = [word for name, value in settings.items() for word in (f"--{name}", as_word(value))]
    assert command(monkeypatch, "crossval", "view", "--folds", 2, "--name", "cv", *words) == 0
    metrics = json.loads((project / "runs" / "view" / "cv" / "metrics.json").read_text())
    assert (metrics["bundle"], metrics["dataset"]["cases"]) == ("view", 24)

    capsys.readouterr()
    assert command(monkeypatch, "compare", "first", "cv") == 0
    assert "Brier score" in capsys.readouterr().out
    assert "AUROC" in (project / "runs" / "view" / "compare_first_cv.html").read_text()

    client = mlflow.MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    assert experiment.name == "view"


def as_word(value):
    return json.dumps(value) if isinstance(value, dict) else str(value)


@gnu_sed
def test_the_task_is_benchmarked(project, monkeypatch, empty_store, capsys):
    subprocess.run(["bash", "-euc", FOLDER], check=True, cwd=project)
    view = get_bundle("view")
    view.function("phantom")(project / "data" / "views", 24, 0, 64)
    for name in ("mlflow.db", "plain.db"):
        shutil.copy(empty_store, project / name)
    for module in ("train", "predict"):
        monkeypatch.setattr(f"pipelines.benchmarks.{module}.scratch", lambda: nullcontext(project))
    settings = {**TINY_XRAYS, "network_def": RESNET}
    sides = {"train_cases": 14, "val_cases": 8, "cache_dir": str(project / "cache")}
    trained = benchmark_train(view, project / "data" / "views", 1, 8, **settings, **sides)
    predicted = benchmark_predict(view, project / "data" / "views", 1, 3, **settings)
    assert (trained.bundle, predicted.bundle) == ("view", "view")
    assert (
        command(monkeypatch, "benchmark", "prepare", "view", "--dataset_dir", "data/views", "--rounds", 1)
        == 0
    )
    source, overrides = str(project / "data" / "views"), {**settings, "tracking_uri": "sqlite:///mlflow.db"}
    job = {"cases": 6, "folder": str(project / "m"), "source": source, "overrides": overrides}
    capsys.readouterr()
    memory.child("train", "view", json.dumps(job))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cached"] == 6 * 32 * 32


@gnu_sed
def test_a_mask_of_something_else_needs_no_python_at_all(project, monkeypatch, phantom):
    subprocess.run(["bash", "-euc", VOLUME_FOLDER], check=True, cwd=project)
    shutil.copytree(phantom, project / "data" / "ventricles")
    run_bundle(
        "bundles/ventricle/train.yaml", **TINY | {"max_epochs": 1, "val_interval": 1, "run_name": "first"}
    )
    say(monkeypatch, "python -m monai.bundle run --config_file bundles/ventricle/evaluate.yaml")
    metrics = json.loads((project / "runs" / "ventricle" / "first" / "metrics.json").read_text())
    assert metrics["bundle"] == "ventricle"
    image = "data/ventricles/imagesTr/la_001.nii.gz"
    say(monkeypatch, f"python -m pipelines predict ventricle {image} --out predictions/ventricle")
    record = json.loads(Path("predictions/ventricle/la_001/result.json").read_text())
    assert record["bundle"] == "ventricle"
    assert "left_ventricle_volume_ml" in record["result"]
    assert "atrium" not in json.dumps(record)


@gnu_sed
def test_a_box_of_something_else_needs_no_python_either(project, monkeypatch):
    subprocess.run(["bash", "-euc", BOX_FOLDER], check=True, cwd=project)
    get_bundle("lungs").function("phantom")(project / "data" / "lungs", 10, 0, 64)
    settings = {**TINY_XRAYS, "max_epochs": 1, "val_interval": 1, "network_def": EDGES}
    run_bundle("bundles/lungs/train.yaml", **settings, run_name="first")
    say(monkeypatch, "python -m monai.bundle run --config_file bundles/lungs/evaluate.yaml")
    metrics = json.loads((project / "runs" / "lungs" / "first" / "metrics.json").read_text())
    assert metrics["bundle"] == "lungs"
    assert not [name for name in metrics["metrics"] if "ratio" in name or "cardio" in name]
    image = next(Path("data/lungs/stage_2_train_images").iterdir())
    say(monkeypatch, f"python -m pipelines predict lungs {image} --out predictions/lungs")
    (record,) = [json.loads(path.read_text()) for path in Path("predictions/lungs").glob("*/result.json")]
    assert record["bundle"] == "lungs"
    assert len(record["result"]["box_xyxy_px"]) == 4
    assert not re.search("heart|cardi|thorax", json.dumps({**record, "input": ""}))
    with pytest.raises(UserError, match=r"no data set [\s\S]*python -m pipelines phantom lungs DIR"):
        run_bundle("bundles/lungs/train.yaml", **settings, dataset_dir="nowhere")
