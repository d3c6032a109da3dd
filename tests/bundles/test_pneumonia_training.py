"""The pneumonia bundle's train.yaml, run through MONAI's own entry point on a tiny phantom."""

from __future__ import annotations

import csv
import json
import math
import shutil
import warnings
from collections import Counter
from pathlib import Path

import mlflow
import numpy as np
import pydicom
import pytest
import torch
import yaml
from conftest import RESNET, ROOT, TINY_XRAYS, kept_logging, use_store

from pipelines import checkpoints
from pipelines.datasets.rsna import read_cases
from pipelines.errors import UserError
from pipelines.evaluation.calibration import load
from pipelines.files import sha256_file
from pipelines.launch import run_bundle
from pipelines.phantoms.xray import write_pneumonia_phantom
from pipelines.runs import read_tracking

TINY = {**TINY_XRAYS, "train_cases": 12, "val_cases": 6, "max_epochs": 3, "network_def": RESNET}


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    """Twenty small X-rays, two each of four patients."""
    folder = tmp_path_factory.mktemp("chests") / "rsna"
    write_pneumonia_phantom(folder, cases=20, seed=0, size=96)
    return folder


def train(chests, folder, **overrides):
    if "resume" not in overrides:
        given = {"dataset_dir": chests, "output_dir": folder / "runs", "cache_dir": folder / "cache"}
        overrides = {**TINY, **given, "run_name": "run", **overrides}
    run_bundle("bundles/pneumonia/train.yaml", **overrides)
    return folder / "runs" / "run"


@pytest.fixture(scope="module")
def finished(chests, empty_store, tmp_path_factory):
    """An uninterrupted tiny training: its run folder and its store. Not to be changed."""
    folder = tmp_path_factory.mktemp("finished_pneumonia")
    with pytest.MonkeyPatch.context() as monkeypatch, kept_logging():
        uri = use_store(folder, empty_store, monkeypatch)
        return train(chests, folder), uri


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_weights_calibration_baseline_and_every_validated_case(finished, chests):
    run_dir, uri = finished
    kept = {path.name for path in run_dir.iterdir()}
    assert kept >= {"config.yaml", "model.pt", "last.pt", "datalist.json", "log.txt", "cases.csv"}
    assert kept >= {"calibration.json", "header_baseline.json"}
    assert json.loads((run_dir / "calibration.json").read_text())["model_sha256"] == sha256_file(
        run_dir / "model.pt"
    )
    labels = {case["case"]: str(case["label"]) for case in read_cases(chests)}
    validated = rows(run_dir / "cases.csv")
    assert len(validated) == 6
    assert all(row["label"] == labels[row["case"]] for row in validated)
    run = mlflow.MlflowClient(tracking_uri=uri).get_run(read_tracking(run_dir)["run_id"])
    assert run.info.status == "FINISHED"
    assert {"val/auroc", "val/loss", "train/loss", "best/auroc"} <= set(run.data.metrics)
    assert run.data.params["max_epochs"] == "3"


def test_the_kept_calibration_is_of_the_best_validation(finished):
    run_dir, _ = finished
    calibration, validated = load(run_dir / "model.pt"), rows(run_dir / "cases.csv")
    assert calibration.cases == 6
    logits, labels = (np.array([float(row[name]) for row in validated]) for name in ("logit", "label"))
    positive = calibration.probability(logits) >= calibration.threshold("balanced")
    assert positive[labels == 1].mean() == pytest.approx(
        calibration.operating_points["balanced"]["sensitivity"]
    )


def test_a_training_stopped_and_resumed_ends_as_if_it_had_never_stopped(
    chests, finished, store, monkeypatch, tmp_path
):
    original, calls = torch.optim.Adam.step, []

    def stop(*arguments, **options):
        calls.append(None)
        if len(calls) == 5:  # in the second epoch of three batches each
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(chests, tmp_path)
    run_dir = tmp_path / "runs" / "run"
    assert checkpoints.load(run_dir / "last.pt")["epoch"] == 1
    train(chests, tmp_path, resume=str(run_dir))
    ours, theirs = (checkpoints.load(folder / "last.pt") for folder in (run_dir, finished[0]))
    for name in ("network", "best_from"):
        assert all(torch.equal(ours[name][key], value) for key, value in theirs[name].items())
    assert ours["history"] == theirs["history"]
    for name in ("cases.csv", "calibration.json", "header_baseline.json"):
        assert (run_dir / name).read_text() == (finished[0] / name).read_text()


def test_the_cache_lies_outside_the_data_set_and_serves_the_next_training(
    chests, finished, store, monkeypatch, tmp_path
):
    shutil.copytree(finished[0].parents[1] / "cache", tmp_path / "cache")
    monkeypatch.setattr("pipelines.prepare.read_xray_reduced", None)  # reading a file anew would fail
    train(chests, tmp_path, max_epochs=1)
    assert {path.name for path in chests.iterdir()} == {
        "phantom.json",
        "nih_patients.csv",
        "stage_2_train_images",
        "stage_2_train_labels.csv",
        "stage_2_detailed_class_info.csv",
    }


def test_weighting_positives_shifts_the_probability_back(chests, store, tmp_path):
    run_dir = train(chests, tmp_path, pos_weight=4.0, max_epochs=1)
    assert load(run_dir / "model.pt").offset == pytest.approx(math.log(4))


def test_images_of_one_patient_are_on_one_side(finished, chests):
    split = json.loads((finished[0] / "datalist.json").read_text())
    sides = [{case["group"] for case in split[side]} for side in ("train", "val", "test")]
    assert len(set.union(*sides)) == sum(map(len, sides))
    assert min(map(len, sides)) >= 1


def test_an_x_ray_that_cannot_be_read_is_told_and_left_out(chests, store, tmp_path, capfd):
    folder = tmp_path / "rsna"
    shutil.copytree(chests, folder)
    # cut short within its pixels: the check before a training reads headers alone
    names = [case["case"] for case in read_cases(folder)]
    path = folder / "stage_2_train_images" / f"{names[0]}.dcm"
    path.write_bytes(path.read_bytes()[:-900])
    run_dir = train(folder, tmp_path, max_epochs=1)
    assert f"1 X-rays cannot be read and are left out, the first is {names[0]}" in capfd.readouterr().err
    assert (run_dir / "model.pt").is_file()


SECRETS = {
    "PatientName": "Quaxolotl^Zebulon",
    "PatientID": "SECRET-77x",
    "PatientBirthDate": "19530917",
    "PatientAddress": "7 Hidden Lane",
    "StudyDate": "20240229",
    "SeriesDate": "20240301",
    "AccessionNumber": "ACC-90210-x",
    "InstitutionName": "St. Elsewherium",
    "ReferringPhysicianName": "Whomsoever",
    "StudyDescription": "Zebulon again",
    "PatientComments": "call Zebulon",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.771.23",
}


def test_nothing_of_a_header_reaches_the_run_folder_the_cache_mlflow_or_the_console(
    chests, store, tmp_path, capfd
):
    folder = tmp_path / "data" / "rsna"
    shutil.copytree(chests, folder)
    paths = sorted((folder / "stage_2_train_images").iterdir())
    for index, path in enumerate(paths):
        fill_header(path, index)
    paths[0].write_bytes(paths[0].read_bytes()[:-900])  # what cannot be read is told
    run_dir = train(folder, tmp_path, max_epochs=1)
    for cases in ("val", "all"):
        run_bundle("bundles/pneumonia/evaluate.yaml", ckpt_path=run_dir, device="cpu", cases=cases)
    uri = mlflow.MlflowClient(tracking_uri=store).get_run(read_tracking(run_dir)["run_id"]).info.artifact_uri
    roots = [run_dir, tmp_path / "cache", tmp_path / "mlflow.db", Path(uri.removeprefix("file://"))]
    assert all(root.exists() for root in roots)
    files = [
        path for root in roots for path in (root.rglob("*") if root.is_dir() else [root]) if path.is_file()
    ]
    written = {str(path): path.read_bytes().lower() for path in files}
    shown = capfd.readouterr()
    written |= {"stdout": shown.out.lower().encode(), "stderr": shown.err.lower().encode()}
    assert "cannot be read and are left out" in shown.err
    names = {part for path in files for part in path.parts}
    for secret in ["quaxolotl", "zebulon", *(value.lower() for value in SECRETS.values())]:
        assert [name for name, content in written.items() if secret.encode() in content] == [], secret
        assert not any(secret in name.lower() for name in names)


def fill_header(path, index):
    """Write what identifies a patient into a header, and nonsense where a view, an age or a sex is expected."""
    dataset = pydicom.dcmread(path)
    for name, value in SECRETS.items():
        setattr(dataset, name, value)
    dataset.PatientID = f"SECRET-77x{index}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what the standard forbids
        if index % 5 == 1:
            dataset.ViewPosition, dataset.PatientAge, dataset.PatientSex = "ZEBULON", "QUAXOLOTL", "ZEBULON"
        dataset.save_as(path)


def test_a_training_starts_from_a_file_of_photographs(chests, store, tmp_path):
    network = yaml_network(n_input_channels=3, num_classes=1000)
    torch.save(network.state_dict(), tmp_path / "photographs.pth")
    run_dir = train(chests, tmp_path, max_epochs=1, lr=1e-9, pretrained=str(tmp_path / "photographs.pth"))
    trained = checkpoints.load(run_dir / "last.pt")["network"]
    wanted = network.state_dict()
    torch.testing.assert_close(
        trained["conv1.weight"], wanted["conv1.weight"].sum(1, keepdim=True), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        trained["layer4.0.conv2.weight"], wanted["layer4.0.conv2.weight"], atol=1e-5, rtol=0
    )


def yaml_network(**changes):
    from monai.networks.nets import ResNet

    return ResNet(**{name: value for name, value in RESNET.items() if name != "_target_"} | changes)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"max_epoch": 1}, "There is no setting 'max_epoch'; did you mean 'max_epochs'"),
        ({"size": 16}, "size must be a whole number of pixels from 32, got 16"),
        ({"pos_weight": 0}, "pos_weight must be a number above 0"),
        ({"flip_prob": 2}, "flip_prob must be a number from 0 to 1"),
        ({"pretrained": "nowhere.pth"}, r"There is no checkpoint nowhere\.pth"),
        ({"dataset_dir": "nowhere"}, "fetch pneumonia"),
        ({"patients": "nowhere.csv"}, r"there is no mapping table .*nowhere\.csv"),
        ({"train_cases": ["nobody"]}, "train_cases names case 'nobody', which is not in the data set"),
    ],
)
def test_a_mistake_on_the_command_line_is_answered_with_what_to_do(
    chests, store, tmp_path, overrides, message
):
    with pytest.raises(UserError, match=message):
        train(chests, tmp_path, **overrides)


def test_a_side_with_one_label_alone_is_refused_before_anything_is_made(chests, store, tmp_path):
    cases = read_cases(chests)
    images = Counter(case["group"] for case in cases)
    negative = [case["case"] for case in cases if case["label"] == 0 and images[case["group"]] == 1]
    with pytest.raises(UserError, match="all 2 cases of 'val' have Target 0"):
        train(chests, tmp_path, val_cases=negative[:2])
    assert not (tmp_path / "runs").exists()


def test_the_default_network_is_a_resnet18_with_torchvisions_names():
    from monai.bundle import ConfigParser

    config = yaml.safe_load((ROOT / "bundles/pneumonia/inference.yaml").read_text())
    network_def = config["network_def"]
    network = ConfigParser({"network_def": network_def}).get_parsed_content("network_def")
    # He et al., 2016: 11.69 million with 1000 classes and three channels
    full = 11_689_512 - 999 * 513 - 2 * 64 * 49
    assert sum(weight.numel() for weight in network.parameters()) == full
    assert network(torch.zeros(1, 1, 224, 224)).shape == (1, 1)
