"""The atrium's train.yaml, run through MONAI's own entry point on a tiny phantom."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
import torch
import yaml
from conftest import ROOT, TINY

from pipelines import checkpoints
from pipelines.errors import UserError
from pipelines.runs import read_tracking

EPOCHS = TINY["max_epochs"]


def assert_same_end(run_dir: Path, reference: Path) -> None:
    """Assert that weights, averaged weights, optimizer, schedule, history and best of two runs are the same bits."""
    ours, theirs = (checkpoints.load(folder / "last.pt") for folder in (run_dir, reference))
    assert ours["epoch"] == theirs["epoch"] == EPOCHS
    for name in ("network", "best_from"):
        assert ours[name].keys() == theirs[name].keys()
        for key, value in theirs[name].items():
            assert torch.equal(ours[name][key], value), f"{name}: {key}"
    torch.testing.assert_close(ours["optimizer"], theirs["optimizer"], rtol=0, atol=0)
    assert ours["scheduler"] == theirs["scheduler"]
    assert ours["history"] == theirs["history"]
    assert ours["best"] == theirs["best"]
    best = [checkpoints.load(folder / "model.pt") for folder in (run_dir, reference)]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[1])


def run_of(run_dir: Path, uri: str) -> mlflow.entities.Run:
    return mlflow.MlflowClient(tracking_uri=uri).get_run(read_tracking(run_dir)["run_id"])


def steps(run_dir: Path, uri: str, metric: str) -> list[int]:
    client = mlflow.MlflowClient(tracking_uri=uri)
    return [point.step for point in client.get_metric_history(read_tracking(run_dir)["run_id"], metric)]


def artifacts(run_dir: Path, uri: str, folder: str | None = None) -> set[str]:
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.list_artifacts(read_tracking(run_dir)["run_id"], folder)
    return {file.path for item in found for file in [item] if not item.is_dir} | {
        path for item in found if item.is_dir for path in artifacts(run_dir, uri, item.path)
    }


# ---- resume


def interrupted(monkeypatch, module, name, hit, error):
    """Let the ``hit``-th call of ``module.name`` raise ``error``."""
    original, calls = getattr(module, name), []

    def break_off(*args, **kwargs):
        calls.append(args)
        if len(calls) == hit:
            if name == "save":  # some of the file is there already
                args[1].write(b"PK\x03\x04 half a checkpoint")
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, break_off)


# The first validation is in epoch 2, so the checkpoints are written in this order: last (1), best (2), last (2), …
@pytest.mark.parametrize(
    ("module", "name", "hit", "error", "raised", "status", "epoch"),
    [
        pytest.param(
            torch.optim.Adam, "step", 8, KeyboardInterrupt(), KeyboardInterrupt, "KILLED", 1, id="ctrl-c"
        ),
        pytest.param(torch, "save", 2, RuntimeError("boom"), RuntimeError, "FAILED", 1, id="in-best"),
        pytest.param(torch, "save", 3, KeyboardInterrupt(), KeyboardInterrupt, "KILLED", 1, id="in-last"),
        pytest.param(
            torch,
            "save",
            3,
            OSError(errno.ENOSPC, "No space left on device"),
            UserError,
            "FAILED",
            1,
            id="disk-full",
        ),
        pytest.param(
            torch, "save", 4, OSError(errno.EIO, "Input/output error"), UserError, "FAILED", 2, id="disk"
        ),
    ],
)
def test_a_training_stopped_anywhere_and_resumed_ends_as_if_it_had_never_stopped(
    train, finished, store, monkeypatch, tmp_path, module, name, hit, error, raised, status, epoch
):
    with monkeypatch.context() as patch:
        interrupted(patch, module, name, hit, error)
        with pytest.raises(raised):
            train()
    run_dir = tmp_path / "runs" / "run"
    assert checkpoints.load(run_dir / "last.pt")["epoch"] == epoch
    first = run_of(run_dir, store)
    assert first.info.status == read_tracking(run_dir)["status"] == status
    assert "traceback.txt" in artifacts(run_dir, store)

    train(resume=str(run_dir))

    assert_same_end(run_dir, finished[0])
    assert not list(run_dir.glob(".tmp-*"))
    again = run_of(run_dir, store)
    assert again.info.run_id == first.info.run_id
    assert again.info.status == "FINISHED"
    assert steps(run_dir, store, "train/loss") == [1, 2, 3, 4]
    assert steps(run_dir, store, "val/mean_dice") == [2, 4]


def test_a_checkpoint_that_cannot_be_moved_into_place_costs_an_epoch_at_most(
    train, finished, monkeypatch, tmp_path
):
    run_dir, original = tmp_path / "runs" / "run", os.replace

    def full(source, target):
        if Path(target).name == "last.pt" and Path(target).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match=r"No space left on device[\s\S]*--resume"):
            train()
    assert checkpoints.load(run_dir / "last.pt")["epoch"] == 1
    (run_dir / ".tmp-abc-last.pt").write_bytes(b"what SIGKILL leaves behind")
    train(resume=str(run_dir))
    assert_same_end(run_dir, finished[0])
    assert not list(run_dir.glob(".tmp-*"))


@pytest.mark.filterwarnings(
    "ignore:.*use of fork:DeprecationWarning"
)  # Python 3.12 warns of how torch starts workers
def test_samples_are_the_same_however_many_workers_draw_them(train, finished, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        interrupted(patch, torch.optim.Adam, "step", 8, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            train(num_workers=1)
    train(resume=str(tmp_path / "runs" / "run"), num_workers=1)
    assert_same_end(tmp_path / "runs" / "run", finished[0])


# without a GPU torch says that mixed precision is off; MONAI 1.6 calls the scaler by its old name
@pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning", "ignore:.*GradScaler:FutureWarning")
def test_a_run_goes_on_with_mixed_precision_whether_or_not_it_began_with_it(train):
    run_dir = train(max_epochs=1, **{"train#trainer#amp": True})
    last = checkpoints.load(run_dir / "last.pt")
    train(resume=str(run_dir), max_epochs=2)
    del last["scaler"]  # as a training without mixed precision leaves it
    checkpoints.save(last, run_dir / "last.pt")
    train(resume=str(run_dir), max_epochs=2)
    assert checkpoints.load(run_dir / "last.pt")["epoch"] == 2
    assert "scaler" in checkpoints.load(run_dir / "last.pt")


def test_another_seed_gives_other_weights(train, finished):
    ours, theirs = (
        checkpoints.load(run / "last.pt")["network"] for run in (train(seed=1, max_epochs=1), finished[0])
    )
    assert not any(torch.equal(ours[key], theirs[key]) for key in theirs if key.endswith("conv.weight"))


def test_a_finished_run_trains_on_with_more_epochs(train, store, capfd):
    run_dir = train(max_epochs=1)
    train(resume=str(run_dir), max_epochs=2)
    last = checkpoints.load(run_dir / "last.pt")
    assert last["epoch"] == 2
    assert last["scheduler"]["last_epoch"] == last["scheduler"]["total_steps"] - 1  # all of the new length
    assert "Resuming with max_epochs = 2 instead of 1." in capfd.readouterr().err
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["max_epochs"] == 2
    assert run_of(run_dir, store).data.tags["changed.max_epochs"] == "from 1 to 2"
    assert steps(run_dir, store, "train/loss") == [1, 2]


def damage(name: str, content: bytes):
    return lambda run_dir: (run_dir / name).write_bytes(content)


def other_architecture(run_dir: Path) -> None:
    last = checkpoints.load(run_dir / "last.pt")
    key = next(iter(last["network"]))
    last["network"][key] = torch.zeros(2, 2)
    checkpoints.save({**last, "epoch": 1}, run_dir / "last.pt")


def other_optimizer(run_dir: Path) -> None:
    last = checkpoints.load(run_dir / "last.pt")
    checkpoints.save({**last, "epoch": 1, "optimizer": {"param_groups": []}}, run_dir / "last.pt")


def other_data(run_dir: Path) -> None:
    last = checkpoints.load(run_dir / "last.pt")
    checkpoints.save({**last, "epoch": 1}, run_dir / "last.pt")
    datalist = (run_dir / "datalist.json").read_text()
    (run_dir / "datalist.json").write_text(re.sub(r'"hash": "\w+"', '"hash": "0"', datalist))


def no_datalist(run_dir: Path) -> None:
    other_data(run_dir)
    (run_dir / "datalist.json").unlink()


def damaged_datalist(run_dir: Path) -> None:
    other_data(run_dir)
    (run_dir / "datalist.json").write_text("{")


@pytest.mark.parametrize(
    ("change", "overrides", "message"),
    [
        (no_datalist, {}, r"datalist\.json is missing or damaged, so it cannot be told whether"),
        (damaged_datalist, {}, r"datalist\.json is missing or damaged"),
        (lambda run_dir: None, {}, r"Nothing to resume: .* 4 epochs.*\n.*raise --max_epochs above 4"),
        (lambda run_dir: shutil.rmtree(run_dir), {}, "There is no run folder .*; did you mean"),
        (
            lambda run_dir: (run_dir / "config.yaml").unlink(),
            {},
            r"is no run folder: it holds no config\.yaml",
        ),
        (lambda run_dir: (run_dir / "last.pt").unlink(), {}, r"holds no last\.pt: .*Start it anew"),
        (damage("last.pt", b"PK\x03\x04"), {}, r"last\.pt is not a readable checkpoint"),
        (damage("last.pt", b""), {}, r"last\.pt is not a readable checkpoint"),
        (lambda run_dir: torch.save([1], run_dir / "last.pt"), {}, "was not written by a training"),
        (damage("config.yaml", b"a: [b"), {}, r"config\.yaml is damaged"),
        (
            damage("config.yaml", b"bundle_root: bundles/atrium"),
            {},
            "is damaged: it lacks max_epochs, seed, ",
        ),
        (
            damage("config.yaml", b"bundle_root: bundles/other"),
            {},
            "is a run of bundles/other, not of bundles/atrium",
        ),
        (other_architecture, {}, r"belongs to another architecture[\s\S]*\(2, 2\)"),
        (other_optimizer, {}, "does not fit this configuration"),
        (other_data, {}, r"The data in .* differ[\s\S]*--dataset_dir"),
        (lambda run_dir: None, {"lr": 0.5}, "lr cannot change when a run is resumed"),
        (lambda run_dir: None, {"network_def": {"_target_": "BasicUNet"}}, "network_def cannot change"),
        (lambda run_dir: None, {"max_epochs": 2}, r"Nothing to resume: .*max_epochs is 2"),
    ],
)
def test_what_cannot_be_resumed_is_refused_in_three_lines_and_left_as_it_is(
    train, finished, tmp_path, change, overrides, message
):
    run_dir = tmp_path / "damaged"
    shutil.copytree(finished[0], run_dir)
    (tmp_path / "damage").mkdir()
    change(run_dir)
    before = {path.name: path.read_bytes() for path in run_dir.glob("*") if path.suffix in (".pt", ".yaml")}
    with pytest.raises(UserError, match=message) as refused:
        train(resume=str(run_dir), **overrides)
    assert len(str(refused.value).splitlines()) <= 3
    assert {name: (run_dir / name).read_bytes() for name in before} == before


# ---- what a run leaves behind


def test_one_mlflow_run_holds_the_whole_training(finished):
    run_dir, uri = finished
    run = run_of(run_dir, uri)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "reference"
    assert steps(run_dir, uri, "train/loss") == steps(run_dir, uri, "train/learning_rate") == [1, 2, 3, 4]
    assert steps(run_dir, uri, "val/mean_dice") == steps(run_dir, uri, "val/loss") == [2, 4]
    assert {"bundle", "git.commit", "git.dirty", "dataset.hash", "split.hash", "seed", "host.kind"} <= set(
        run.data.tags
    )
    assert {"version.monai", "version.torch", "version.python"} <= set(run.data.tags)
    assert any(name.startswith("system/") for name in run.data.metrics)
    inputs = {
        tag.value: (item.dataset.name, json.loads(item.dataset.profile)["num_rows"])
        for item in run.inputs.dataset_inputs
        for tag in item.tags
        if tag.key == "mlflow.data.context"
    }
    assert inputs == {"train": ("Task02_Heart", 3), "val": ("Task02_Heart", 1)}
    assert len({item.dataset.digest for item in run.inputs.dataset_inputs}) == 2


def test_every_setting_of_the_yaml_is_a_parameter_in_mlflow(finished):
    run = run_of(*finished)
    text = (ROOT / "bundles/atrium/train.yaml").read_text()
    knobs = re.findall(r"^(\w+): ", text.split("# ---- knobs")[1].split("# ---- ")[0], flags=re.MULTILINE)
    assert len(knobs) > 15
    assert set(knobs) - set(run.data.params) == {"resume"}
    expected = {
        "max_epochs": "4",
        "planes": "[2]",
        "device": "cpu",
        "run_name": "reference",
        "batch_size": "4",
    }
    assert expected.items() <= run.data.params.items()


def test_mlflow_keeps_config_curves_best_weights_cases_and_pictures_of_the_best(finished):
    run_dir, uri = finished
    found = artifacts(run_dir, uri)
    best = checkpoints.load(run_dir / "last.pt")["best"][1]
    assert {"config.yaml", "datalist.json", "model.pt", "cases.csv", "figures/learning_curves.png"} <= found
    assert f"validation/epoch_{best:03d}_la_004.png" in found
    assert (run_dir / "figures" / "validation_la_004.png").is_file()


def test_cases_csv_holds_the_best_validation(finished):
    run_dir, _ = finished
    with open(run_dir / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    best, _ = checkpoints.load(run_dir / "last.pt")["best"]
    assert [row["case"] for row in rows] == ["la_004"]
    assert float(rows[0]["mean_dice"]) == pytest.approx(best, rel=1e-5)


def test_the_best_weights_are_the_averaged_ones_and_load_without_pickle(finished):
    run_dir, _ = finished
    weights = torch.load(run_dir / "model.pt", weights_only=True)
    averaged = checkpoints.load(run_dir / "last.pt")["best_from"]
    assert weights.keys() == averaged.keys()
    assert all(value.is_contiguous() for value in weights.values())


def test_an_evaluation_joins_the_run_of_its_training(finished, monkeypatch, tmp_path, untouched):
    from pipelines.launch import run_bundle

    shutil.copytree(finished[0].parents[1], tmp_path / "copy")
    run_dir, uri = tmp_path / "copy/runs/reference", f"sqlite:///{tmp_path / 'copy/mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(ROOT)
    run_bundle("bundles/atrium/evaluate.yaml", ckpt_path=str(run_dir), device="cpu")
    run = run_of(run_dir, uri)
    assert run.info.run_id == read_tracking(finished[0])["run_id"]
    assert run.info.status == "FINISHED"
    assert {"train/loss", "val/mean_dice", "evaluation/val/mean_dice"} <= set(run.data.metrics)
    assert "evaluation/val/metrics.json" in artifacts(run_dir, uri)


def test_a_diverged_training_says_so_and_keeps_its_last_good_checkpoint(train, store, tmp_path, monkeypatch):
    from pipelines import training

    run_dir, original = tmp_path / "runs" / "run", training.batch_loss

    def nan_after_the_first_epoch(output):
        return original(output) * (float("nan") if (run_dir / "last.pt").exists() else 1.0)

    monkeypatch.setattr(training, "batch_loss", nan_after_the_first_epoch)
    with pytest.raises(UserError, match=r"not a number any more in epoch 2[\s\S]*lower --lr"):
        train()
    assert checkpoints.load(run_dir / "last.pt")["epoch"] == 1
    assert run_of(run_dir, store).info.status == "FAILED"


# ---- mistakes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"max_epoch": 1}, "There is no setting 'max_epoch'; did you mean 'max_epochs'"),
        ({"dataset": "/data"}, "There is no setting 'dataset'; did you mean 'data"),
        ({"train#volums": 1}, "There is no setting 'train::volums'; did you mean 'train::volumes'"),
        (
            {"train#dataset#plane": 1},
            "There is no setting 'train::dataset::plane'; did you mean '.*::planes'",
        ),
        (
            {"run_id": "max_epochs=3"},
            "nothing called 'max_epochs=3' to run. Give settings by name: --max_epochs",
        ),
        ({"network_def": {"_target_": "UNt"}}, "network_def: .* cannot be computed: .*UNt"),
        ({"max_epochs": 0}, "max_epochs must be a whole number above 0, got 0"),
        ({"lr": "banana"}, "lr must be a number above 0, e.g. 1e-3, got 'banana'"),
        ({"lr": "$1 / 0"}, "lr: .* cannot be computed: ZeroDivisionError"),
        ({"device": "cuda:99"}, "device must be one that this machine has, e.g. cpu, got 'cuda:99'"),
        ({"train_cases": 0}, "train_cases must be .* got 0"),
        ({"train_cases": ["la_01"]}, "train_cases names case 'la_01'.*did you mean 'la_001'"),
        ({"dataset_dir": "/nowhere/Task02_Heart"}, r"no data set .*/nowhere/Task02_Heart[\s\S]*fetch atrium"),
        ({"output_dir": __file__}, "Cannot make the run folder .*: Not a directory. Set output_dir"),
        ({"run_name": "a/b"}, "run_name must be a plain name without folders"),
        ({"resume": True}, "resume must be a run folder, got True"),
    ],
)
def test_a_mistake_is_answered_in_three_lines_before_a_run_folder_is_made(
    train, tmp_path, overrides, message
):
    with pytest.raises(UserError, match=message) as refused:
        train(**overrides)
    assert len(str(refused.value).splitlines()) <= 3
    assert not (tmp_path / "runs").exists()


def test_a_block_of_inference_yaml_can_be_changed_in_part(store, phantom, tmp_path):
    from pipelines.launch import run_bundle

    part = {"network_def::channels": [4, 8], "network_def#strides": [2], "deterministic_transforms#6": {}}
    part["deterministic_transforms#6"] = {"_target_": "ScaleIntensityd", "keys": "image"}
    knobs = {name: value for name, value in TINY.items() if name != "network_def"} | {"max_epochs": 1}
    where = {"dataset_dir": str(phantom), "output_dir": str(tmp_path), "run_name": "run", "val_interval": 1}
    run_bundle("bundles/atrium/train.yaml", **{**knobs, **where, **part, "whole_run#extras": []})
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    whole = yaml.safe_load(Path("bundles/atrium/inference.yaml").read_text())
    assert config["network_def"] == whole["network_def"] | {"channels": [4, 8], "strides": [2]}
    steps = whole["deterministic_transforms"]
    assert steps[6]["_target_"] == "ScaleIntensityRangePercentilesd"
    steps[6] = part["deterministic_transforms#6"]
    assert config["deterministic_transforms"] == steps
    weights = checkpoints.load(tmp_path / "run" / "model.pt")
    assert max(len(value) for value in weights.values() if value.ndim == 4) == 16  # the head's, not 512


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "network_def#chanels",
            "network_def: .* cannot be computed: .*unexpected keyword argument 'chanels'",
        ),
        ("deterministic_transforms::99", "There is no setting '.*::99'; did you mean '.*::7'"),
    ],
)
def test_a_mistyped_part_of_a_block_of_inference_yaml_is_refused(store, phantom, tmp_path, name, message):
    from pipelines.launch import run_bundle

    where = {
        "dataset_dir": str(phantom),
        "train_cases": 3,
        "val_cases": 1,
        "output_dir": str(tmp_path / "runs"),
    }
    with pytest.raises(UserError, match=message) as refused:
        run_bundle("bundles/atrium/train.yaml", **where, **{name: [1]})
    assert len(str(refused.value).splitlines()) <= 3
    assert not (tmp_path / "runs").exists()


def test_a_taken_run_name_is_refused_and_the_run_kept(train, tmp_path):
    (tmp_path / "runs" / "run").mkdir(parents=True)
    with pytest.raises(UserError, match=r"exists already\. Choose another run_name, or .* --resume"):
        train()


def test_garbage_is_refused_before_a_run_folder_is_made(train, phantom, tmp_path):
    broken = tmp_path / "Task02_Heart"
    shutil.copytree(phantom, broken)
    shutil.copy(broken / "imagesTr" / "la_001.nii.gz", broken / "labelsTr" / "la_002.nii.gz")
    (broken / "labelsTr" / "la_003.nii.gz").unlink()
    with pytest.raises(UserError, match="la_003"):
        train(dataset_dir=str(broken))
    assert not (tmp_path / "runs").exists()


def test_an_unusable_store_is_refused(train, monkeypatch, tmp_path):
    (tmp_path / "broken.db").write_text("this is no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'broken.db'}")
    with pytest.raises(UserError, match=r"MLflow store .* cannot be written[\s\S]*MLFLOW_TRACKING_URI"):
        train()
    assert not (tmp_path / "runs").exists()


# ---- as other tools see the bundle


def test_train_yaml_has_every_property_that_monai_asks_for(phantom, store, tmp_path):
    from monai.bundle import ConfigWorkflow

    places = {"dataset_dir": str(phantom), "output_dir": str(tmp_path / "runs")}
    workflow = ConfigWorkflow("bundles/atrium/train.yaml", workflow_type="train", **{**TINY, **places})
    workflow.initialize()
    assert workflow.check_properties() == []


def test_inference_yaml_has_every_property_that_monai_asks_for(phantom, finished, monkeypatch, untouched):
    from monai.bundle import ConfigWorkflow

    monkeypatch.chdir(ROOT)
    places = {"dataset_dir": str(phantom / "imagesTr"), "ckpt_path": str(finished[0]), "device": "cpu"}
    workflow = ConfigWorkflow("bundles/atrium/inference.yaml", workflow_type="infer", **places)
    workflow.initialize()
    assert workflow.check_properties() == []


# ---- as processes


def command(phantom: Path, runs: Path, **overrides) -> list[str]:
    settings = {**TINY, "dataset_dir": phantom, "output_dir": runs, **overrides}
    pairs = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", "bundles/atrium/train.yaml", *pairs]


def start(arguments: list[str], store: str) -> subprocess.Popen:
    variables = {**os.environ, "MLFLOW_TRACKING_URI": store, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True)


def send_after_first_epoch(signals: dict[Path, tuple[subprocess.Popen, signal.Signals]]) -> None:
    """Send each process its signal as soon as its run folder holds a checkpoint, which is in its second epoch."""
    deadline = time.monotonic() + 300
    while signals:
        for run_dir, (process, number) in list(signals.items()):
            assert process.poll() is None, process.stderr.read()
            if (run_dir / "last.pt").is_file():
                process.send_signal(number)
                del signals[run_dir]
        assert time.monotonic() < deadline, "the first epoch did not end within five minutes"
        time.sleep(0.01)


# what MONAI's own entry point says before any code of ours is run, and of its arguments
MONAI_LINES = r"parsing config_file|.* - INFO - |^ '|^\s*$"


def test_two_trainings_at_once_stay_two_runs_and_a_killed_one_goes_on(train, phantom, finished, tmp_path):
    store = f"sqlite:///{tmp_path / 'fresh' / 'mlflow.db'}"  # neither finds it there
    runs = tmp_path / "at_once"
    killed, stopped = (start(command(phantom, runs, run_name=name), store) for name in ("killed", "stopped"))
    try:
        send_after_first_epoch(
            {runs / "killed": (killed, signal.SIGKILL), runs / "stopped": (stopped, signal.SIGTERM)}
        )
        _, said = stopped.communicate(timeout=120)
    finally:
        for process in (killed, stopped):
            process.kill()
            process.communicate()

    assert killed.returncode == -signal.SIGKILL
    assert run_of(runs / "killed", store).info.status == "RUNNING"  # nobody was left to end it
    assert run_of(runs / "stopped", store).info.status == "KILLED"
    assert run_of(runs / "stopped", store).info.run_id != run_of(runs / "killed", store).info.run_id
    lines = [line for line in said.splitlines() if not re.match(MONAI_LINES, line)]
    allowed = rf"Run folder: |Epoch +\d/{EPOCHS} |Stopped\. Go on with --resume {runs / 'stopped'}$"
    assert [line for line in lines if not re.match(allowed, line)] == []

    os.environ["MLFLOW_TRACKING_URI"] = store  # the `train` fixture gives the variable back
    train(resume=str(runs / "killed"))
    assert_same_end(runs / "killed", finished[0])
    assert run_of(runs / "killed", store).info.status == "FINISHED"
    assert steps(runs / "killed", store, "train/loss") == [1, 2, 3, 4]


def test_a_mistyped_override_is_answered_on_the_console_in_three_lines(phantom, store, tmp_path):
    process = start(command(phantom, tmp_path / "runs", max_epoch=1), store)
    _, said = process.communicate(timeout=300)
    lines = [line for line in said.splitlines() if not re.match(MONAI_LINES, line)]
    assert process.returncode == 1
    assert len(lines) <= 3
    assert lines[0] == "Error: There is no setting 'max_epoch'; did you mean 'max_epochs'?"


def test_a_network_that_does_not_fit_the_slices_is_refused_before_a_run_folder_is_made(train, tmp_path):
    with pytest.raises(UserError, match=r"does not take slices of 30 x 32 pixels"):
        train(patch_size=[30, 32, 32])
    assert not (tmp_path / "runs").exists()
