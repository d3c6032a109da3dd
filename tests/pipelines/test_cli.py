from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import command

from pipelines import __main__ as cli
from pipelines import mlflow_yaml
from pipelines.errors import UserError
from pipelines.registry import find_bundles


def test_help_comes_without_heavy_imports():
    code = (
        "import sys; sys.argv = ['cardiothorax', '--help']\n"
        "import pipelines.__main__ as cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'monai', 'mlflow', 'itk', 'matplotlib', 'pandas', 'nibabel'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    shown = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert all(f" {command} " in shown for command in ("fetch", "phantom", "check", "predict", "results"))


def test_module_is_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "check", "artium"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: There is no bundle 'artium'; did you mean 'atrium'?",
        f"Known: {', '.join(find_bundles())}.",
    ]


def test_phantom_and_check_work_on_one_folder(tmp_path, monkeypatch, capsys, store):
    assert command(monkeypatch, "phantom", "atrium", tmp_path / "p", "--cases", 3, "--seed", 1) == 0
    assert f"The phantom is in {tmp_path / 'p'}." in capsys.readouterr().out
    words = ("check", "atrium", "--dataset_dir", tmp_path / "p")
    assert command(monkeypatch, *words, "--train_cases", 2, "--val_cases", 1) == 0
    capsys.readouterr()
    assert (
        command(monkeypatch, *words, "--train_cases", "la_002,la_003", "--val_cases", "[la_001]", "--json")
        == 0
    )
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert facts["split"]["val"] == ["la_001"]
    assert facts["tracking_uri"] == store
    (tmp_path / "p" / "labelsTr" / "la_002.nii.gz").unlink()
    assert command(monkeypatch, *words, "--train_cases", 2, "--val_cases", 1) == 1


@pytest.mark.parametrize(
    "words", [["phantom", "atrium", "x", "--cases", "0"], ["predict", "atrium"], ["prdict"]]
)
def test_wrong_usage_ends_with_code_2(monkeypatch, capsys, words):
    assert command(monkeypatch, *words) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_fetch_goes_to_the_bundles_own_folder_unless_told(tmp_path, monkeypatch, capsys):
    targets = []
    monkeypatch.setattr("pipelines.fetch.fetch_atrium", lambda target: targets.append(str(target)) or target)
    assert command(monkeypatch, "fetch", "atrium") == 0
    assert command(monkeypatch, "fetch", "atrium", "--dataset_dir", tmp_path) == 0
    assert targets == ["data/Task02_Heart", str(tmp_path)]
    assert f"The data set is in {tmp_path}." in capsys.readouterr().out


def test_predict_hands_inputs_and_options_to_the_bundle(monkeypatch):
    calls = []
    monkeypatch.setattr("pipelines.launch.run_bundle", lambda *a, **k: calls.append((str(a[0]), k)))
    assert command(monkeypatch, "predict", "atrium", "a.nii", "b", "--out", "o") == 0
    assert (
        command(monkeypatch, "predict", "atrium", "a", "--out", "o", "--ckpt_path", "w.pt", "--device", "cpu")
        == 0
    )
    assert command(monkeypatch, "predict", "atrium", "a", "--out", "o", "--engine", "openvino") == 0
    config = "bundles/atrium/inference.yaml"
    assert calls == [
        (config, {"dataset_dir": ["a.nii", "b"], "output_dir": "o"}),
        (config, {"dataset_dir": ["a"], "output_dir": "o", "ckpt_path": ["w.pt"], "device": "cpu"}),
        (config, {"dataset_dir": ["a"], "output_dir": "o", "engine": "openvino"}),
    ]


@pytest.mark.parametrize(
    ("bundle", "before", "after"),
    [("pneumonia", None, "1000"), ("pneumonia", "7", "7"), ("atrium", None, None)],
)
def test_threads_wait_asleep_where_xrays_are_read_beside_the_network(monkeypatch, bundle, before, after):
    monkeypatch.setenv("GOMP_SPINCOUNT", before or "")
    if before is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setattr("pipelines.launch.run_bundle", lambda *_, **__: None)
    command(monkeypatch, "predict", bundle, "a.dcm", "--out", "out")
    assert os.environ.get("GOMP_SPINCOUNT") == after


def test_predict_hands_settings_of_the_bundle_on_wherever_they_stand(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr("pipelines.launch.run_bundle", lambda *a, **k: calls.append(k))
    words = (
        "--size",
        "64",
        "a.dcm",
        "--operating_point=rule_out",
        "--out",
        "o",
        "b.dcm",
        "--flips",
        "[[],[1]]",
    )
    assert command(monkeypatch, "predict", "pneumonia", *words) == 0
    settings = {"size": 64, "operating_point": "rule_out", "flips": [[], [1]]}
    assert calls == [{"dataset_dir": ["a.dcm", "b.dcm"], "output_dir": "o", **settings}]
    capsys.readouterr()
    assert command(monkeypatch, "predict", "pneumonia", "--size", "64", "--out", "o") == 1
    assert capsys.readouterr().err == "Error: expected files or folders to predict, got settings alone\n"
    assert command(monkeypatch, "predict", "pneumonia", "a.dcm", "--out", "o", "--size") == 1
    assert "got `--size` alone" in capsys.readouterr().err
    assert len(calls) == 1


def test_mistake_is_answered_with_its_message_alone(monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise UserError("expected this,\ngot that") from ValueError("inner")

    monkeypatch.setattr("pipelines.launch.run_bundle", fail)
    assert command(monkeypatch, "predict", "atrium", "a", "--out", "o") == 1
    assert capsys.readouterr().err == "Error: expected this,\ngot that\n"


def test_a_mistake_that_a_library_wraps_is_answered_with_its_message_alone(monkeypatch, capsys):
    def wrap():
        try:
            raise UserError("there is no checkpoint; name one")
        except UserError as error:
            raise RuntimeError("Failed to evaluate") from error

    monkeypatch.setattr(cli, "app", wrap)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "Error: there is no checkpoint; name one\n"


def test_interrupt_ends_with_code_130_and_no_traceback(monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.launch.run_bundle", interrupt)
    assert command(monkeypatch, "predict", "atrium", "a", "--out", "o") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_results_of_a_folder_without_any_are_asked_for(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "results", tmp_path) == 1
    assert "expected results at" in capsys.readouterr().err


def test_tracking_uri_is_the_projects_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert mlflow_yaml.tracking_uri() == "sqlite:///mlflow.db"
    (tmp_path / "mlflow.yaml").write_text("tracking_uri: sqlite:///other.db")
    assert mlflow_yaml.tracking_uri() == "sqlite:///other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here")
    assert mlflow_yaml.tracking_uri() == "http://here"


@pytest.mark.parametrize("content", [None, "", "experiments:", "experiments: {atrium: a}"])
def test_an_experiment_without_a_name_is_called_like_its_bundle(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "mlflow.yaml").write_text(content)
    assert mlflow_yaml.experiment("lungs") == "lungs"
    assert mlflow_yaml.experiment("atrium") == ("a" if content and "{" in content else "atrium")


def test_xrays_are_prepared_once_and_a_bad_file_is_named(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "p"
    assert command(monkeypatch, "phantom", "pneumonia", folder, "--cases", 2) == 0
    page = sorted((folder / "stage_2_train_images").iterdir())[0]
    page.write_text("<html>")
    words = ("prepare", "pneumonia", "--dataset_dir", folder, "--cache_dir", tmp_path / "c", "--workers", 1)
    assert command(monkeypatch, *words) == 0
    shown = capsys.readouterr()
    assert re.search(r"1 X-rays are in .*, 1 could not be read\.", shown.out)
    assert f"not read: {page.stem}: " in shown.err


def test_prepare_is_refused_where_nothing_is_to_be_prepared(monkeypatch, capsys):
    assert command(monkeypatch, "prepare", "atrium") == 1
    assert "needs no `prepare`" in capsys.readouterr().err


def test_a_task_without_a_bundle_folder_says_so(monkeypatch, capsys, tmp_path):
    (tmp_path / "bundles").mkdir()
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "predict", "cardiac", "x.dcm", "--out", tmp_path / "out") == 1
    assert "cannot be trained or used yet" in capsys.readouterr().err


def test_fetch_cardiac_says_in_three_lines_how_to_get_its_files(monkeypatch, capsys, tmp_path):
    assert command(monkeypatch, "fetch", "cardiac", "--dataset_dir", tmp_path / "heart") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert f"{tmp_path / 'heart'} has no rsna_heart_detection.csv" in lines[0]
    assert f"fetch pneumonia --dataset_dir {tmp_path / 'heart'}" in lines[1]
    assert "train_subjects.npy and val_subjects.npy: from https://" in lines[2]
