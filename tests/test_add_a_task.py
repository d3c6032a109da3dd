"""docs/add-a-task.md, followed to the letter in a copy of the project's configs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY, use_store

import pipelines.datasets
from pipelines.__main__ import main
from pipelines.launch import run_bundle

PAGE = (ROOT / "docs" / "add-a-task.md").read_text(encoding="utf-8")
(MODULE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FOLDER, VOLUME_FOLDER, TRIAL = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store, untouched):
    """A copy of the bundles and of mlflow.yaml, with the page's layout beside the project's own."""
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
    return tmp_path


def say(monkeypatch, line):
    """Run a line of the page in this process."""
    words = line.split()
    assert words[:2] == ["python", "-m"]
    if words[2] == "pipelines":
        monkeypatch.setattr(sys, "argv", ["cardiothorax", *words[3:]])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
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
    results = [json.loads(path.read_text()) for path in Path("predictions/view").glob("*/result.json")]
    assert len(results) == 10
    assert {record["bundle"] for record in results} == {"view"}
    assert all(0 <= record["result"]["probability"] <= 1 for record in results)


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
