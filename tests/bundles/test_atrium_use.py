"""evaluate.yaml, inference.yaml and the command line, with weights whose answer is known: bright is atrium."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from conftest import command
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from pipelines.datasets.datalist import write_datalist
from pipelines.datasets.msd import load_split, read_cases
from pipelines.errors import UserError
from pipelines.files import sha256_file
from pipelines.launch import run_bundle
from pipelines.tasks.atrium import volume_ml

ROOT = Path(__file__).parents[2]
# ITK loads as it is used, and SWIG's deprecation as an error would end the process, not the test.
swig_warns = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")
# a body of 30 x 24 x 5 voxels of 2 x 2 x 4 mm in an oblique grid: 57.6 mL
SPACING, SIDES, TRUE_ML = (2.0, 2.0, 4.0), (30, 24, 5), 30 * 24 * 5 * 16 / 1000
OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, -0.1, 0.3) * SPACING, (-20, 15, 30))
SECRETS = ("Doe", "Jane", "SECRET", "19700101", "20240229", "St. Elsewhere", "1.2.826.0.1.3680043.8.498.7")
# a "network" whose middle channel decides: above 0.5 is foreground
BRIGHT = {
    "_target_": "torch.nn.Conv2d",
    "in_channels": "$len(@slice_offsets)",
    "out_channels": 1,
    "kernel_size": 1,
}


@pytest.fixture(autouse=True)
def here(monkeypatch, untouched):
    monkeypatch.chdir(ROOT)


def make_run(folder, finished=True, bias=-10.0, **settings):
    """A run folder as a training leaves it, with hand-set weights."""
    folder.mkdir(parents=True)
    settings = {"pixdim": 2.0, "planes": [2], "slice_offsets": [-1, 0, 1], "network_def": BRIGHT} | settings
    (folder / "config.yaml").write_text(yaml.safe_dump({"bundle_root": "bundles/atrium", **settings}))
    weight = torch.zeros(1, 3, 1, 1)
    weight[0, 1] = 20
    torch.save({"weight": weight, "bias": torch.tensor([bias])}, folder / "model.pt")
    if finished:
        (folder / "mlflow.json").write_text(json.dumps({"run_id": "0", "status": "FINISHED"}))
    return folder


@pytest.fixture
def run_dir(tmp_path):
    return make_run(tmp_path / "runs" / "bright", finished=False)


def body():
    """(44, 40, 12) bool; nowhere near the border."""
    mask = np.zeros((44, 40, 12), dtype=bool)
    mask[7 : 7 + SIDES[0], 8 : 8 + SIDES[1], 4 : 4 + SIDES[2]] = True
    return mask


def scan():
    """Int16, as a scanner stores it."""
    noise = np.random.default_rng(0).integers(20, 60, body().shape)
    return (noise + 500 * body()).astype(np.int16)


def write_nifti(path, array=None, affine=OBLIQUE, text=b""):
    image = nib.Nifti1Image(scan() if array is None else array, affine)
    image.header["descrip"] = image.header["db_name"] = text[:17]
    nib.save(image, path)
    return path


def write_itk(path):
    import itk

    image = itk.image_from_array(np.ascontiguousarray(scan().T))
    lps = np.diag([-1, -1, 1, 1]) @ OBLIQUE
    image.SetDirection(itk.matrix_from_array(lps[:3, :3] / SPACING))
    image.SetSpacing(SPACING)
    image.SetOrigin(lps[:3, 3])
    itk.imwrite(image, str(path))
    return path


def write_dicom(folder, skip=(), series=SECRETS[-1]):
    lps = np.diag([-1, -1, 1, 1]) @ OBLIQUE
    folder.mkdir(exist_ok=True)
    for k in set(range(scan().shape[2])) - set(skip):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = MRImageStorage, generate_uid(), series
        data.PatientName, data.PatientID, data.PatientBirthDate = "Doe^Jane", "SECRET-7", "19700101"
        data.StudyDate, data.InstitutionName = "20240229", "St. Elsewhere"
        data.PixelSpacing = [SPACING[1], SPACING[0]]
        directions = (lps[:3, :3] / SPACING)[:, :2].T.ravel()
        data.ImageOrientationPatient = [f"{value:.10f}" for value in directions]
        data.ImagePositionPatient = [f"{value:.6f}" for value in lps[:3, 3] + lps[:3, 2] * k]
        data.set_pixel_data(np.ascontiguousarray(scan()[..., k].T), "MONOCHROME2", 16)
        data.save_as(folder / f"{series}.{99 - k}.dcm", enforce_file_format=True)
    return folder


def predict(out, *inputs, **options):
    run_bundle(
        "bundles/atrium/inference.yaml",
        dataset_dir=[str(path) for path in inputs],
        output_dir=str(out),
        **{"device": "cpu", **options},
    )


def result_of(out, case):
    return json.loads((out / case / "result.json").read_text())


def volume_of(out, case):
    return result_of(out, case)["result"]["left_atrium_volume_ml"]


def refusal(action, *arguments, **options):
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


# ---- prediction


@swig_warns
def test_every_format_gives_the_same_volume_and_a_mask_in_its_own_grid(tmp_path, run_dir):
    (tmp_path / "in").mkdir()
    paths = [write_nifti(tmp_path / "in" / name) for name in ("1.2.nii", "gz.nii.gz")]
    paths += [write_itk(tmp_path / "in" / name) for name in ("nrrd.nrrd", "meta.mha")]
    paths.append(write_dicom(tmp_path / "in" / "series"))
    with zipfile.ZipFile(tmp_path / "in" / "zip.v2.zip", "w") as archive:
        for file in paths[-1].iterdir():
            archive.write(file, f"study/{file.name}")
    predict(tmp_path / "out", tmp_path / "in", ckpt_path=str(run_dir))
    cases = ["1.2", "gz", "nrrd", "meta", "series", "zip.v2"]
    made = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert made == sorted(cases)
    for case in cases:
        assert volume_of(tmp_path / "out", case) == pytest.approx(TRUE_ML, rel=1e-3), case
        mask = nib.load(tmp_path / "out" / case / "mask.nii.gz")
        np.testing.assert_array_equal(np.asarray(mask.dataobj), body())
        np.testing.assert_allclose(mask.affine, OBLIQUE, atol=1e-4)


def test_result_says_what_it_came_from_and_what_was_found(tmp_path, run_dir):
    predict(tmp_path / "out", write_nifti(tmp_path / "a.b.nii.gz"), ckpt_path=str(run_dir))
    result = result_of(tmp_path / "out", "a.b")
    assert list(result) == ["bundle", "model_sha256", "config_sha256", "input", "result", "warnings"]
    assert (result["bundle"], result["input"], result["warnings"]) == ("atrium", "a.b.nii.gz", [])
    assert result["model_sha256"] == sha256_file(run_dir / "model.pt")
    assert re.fullmatch("[0-9a-f]{64}", result["config_sha256"])
    assert result["result"]["left_atrium_volume_ml"] == pytest.approx(TRUE_ML)
    assert result["result"]["spacing_mm"] == list(SPACING)
    assert result["result"]["review"] == {"needed": False, "reasons": []}
    files = sorted(path.name for path in (tmp_path / "out" / "a.b").iterdir())
    assert files == ["mask.nii.gz", "overlay.png", "result.json"]


def test_config_hash_tells_settings_apart_and_not_folders(tmp_path, run_dir):
    image = write_nifti(tmp_path / "a.nii")

    def config_hash(out, **options):
        predict(tmp_path / out, image, ckpt_path=str(run_dir), **options)
        return result_of(tmp_path / out, "a")["config_sha256"]

    first = config_hash("one")
    assert config_hash("two", batch_size=7) == first
    assert config_hash("three", flips=[[], [0]]) != first
    assert config_hash("four", pixdim=3.0) != first


def test_one_bad_input_is_told_and_the_others_still_run(tmp_path, run_dir, monkeypatch, capfd):
    (tmp_path / "in").mkdir()
    whole = write_nifti(tmp_path / "in" / "whole.nii.gz").read_bytes()
    (tmp_path / "in" / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_dicom(tmp_path / "in" / "gap", skip=[5])
    write_dicom(tmp_path / "in" / "two")
    write_dicom(tmp_path / "in" / "two", series="1.2.826.0.1.3680043.8.498.8", skip=range(6, 12))
    write_nifti(tmp_path / "in" / "flat.nii", np.full((20, 20, 8), 3, dtype=np.int16))
    code = command(
        monkeypatch, "predict", "atrium", tmp_path / "in", "--out", tmp_path / "out", "--ckpt_path", run_dir
    )
    assert code == 1
    assert volume_of(tmp_path / "out", "whole") == pytest.approx(TRUE_ML)
    with open(tmp_path / "out" / "summary.csv", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert {case: row["status"] for case, row in rows.items()} == {
        "cut": "failed",
        "flat": "failed",
        "gap": "failed",
        "two": "failed",
        "whole": "done",
    }
    assert "damaged, cut short" in rows["cut"]["reason"]
    assert "one value in every voxel" in rows["flat"]["reason"]
    assert "missing" in rows["gap"]["reason"]
    assert "series" in rows["two"]["reason"]
    shown = capfd.readouterr()
    assert f"ok      whole  left_atrium_volume_ml {TRUE_ML:g}" in shown.err
    assert all(f"failed  {case}  " in shown.err for case in ("cut", "flat", "gap", "two"))
    assert "Traceback" not in shown.err + shown.out


def test_nothing_of_a_header_reaches_a_file_or_the_console(tmp_path, run_dir, monkeypatch, capfd):
    write_dicom(tmp_path / "good")
    write_dicom(tmp_path / "gap", skip=[5])
    write_nifti(tmp_path / "text.nii.gz", text=b"Doe Jane SECRET")
    inputs = [tmp_path / name for name in ("good", "gap", "text.nii.gz")]
    assert command(
        monkeypatch, "predict", "atrium", *inputs, "--out", tmp_path / "out", "--ckpt_path", run_dir
    )
    shown = capfd.readouterr()
    assert volume_of(tmp_path / "out", "good") == pytest.approx(TRUE_ML, rel=1e-3)
    written = [shown.out.encode(), shown.err.encode()]
    for path in (tmp_path / "out").rglob("*"):
        written.append(str(path).encode())
        if path.is_file():
            image = path.name.endswith(".nii.gz")
            written.append(nib.load(path).to_bytes() if image else path.read_bytes())
    assert len(written) > 10
    for secret in SECRETS:
        assert not any(secret.encode() in content for content in written), secret


def cross_validation(folder, *biases):
    """Folds whose networks differ in the bias of their last layer."""
    for number, bias in enumerate(biases, 1):
        make_run(folder / f"fold_{number}", bias=bias)
    (folder / "crossval.json").write_text(json.dumps({"bundle": "atrium", "folds": len(biases)}))
    return folder


def test_the_folds_of_a_cross_validation_answer_together_and_tell_how_far_they_agree(
    tmp_path, run_dir, monkeypatch, capfd
):
    folds = cross_validation(tmp_path / "runs" / "folds", -10.0, -10.0, -10.0)
    image = write_nifti(tmp_path / "a.nii.gz")
    words = ["predict", "atrium", image, "--out", tmp_path / "out", "--ckpt_path"]
    assert command(monkeypatch, *words, folds, "--ckpt_path", run_dir) == 0
    record = result_of(tmp_path / "out", "a")
    assert record["result"]["left_atrium_volume_ml"] == pytest.approx(TRUE_ML)
    assert record["result"]["models"] == {"count": 4, "lowest_dice": 1.0, "volume_sd_ml": 0.0}
    assert len(record["model_sha256"]) == 4
    assert f"{folds / 'fold_3' / 'model.pt'}, {run_dir / 'model.pt'}" in capfd.readouterr().err
    assert "review" in record["result"]


def test_a_model_that_finds_nothing_is_outvoted_and_asks_for_a_review(tmp_path):
    folds = cross_validation(tmp_path / "folds", -10.0, -10.0, -50.0)
    predict(tmp_path / "out", write_nifti(tmp_path / "a.nii.gz"), ckpt_path=str(folds))
    result = result_of(tmp_path / "out", "a")["result"]
    assert result["left_atrium_volume_ml"] == pytest.approx(TRUE_ML)
    assert result["models"]["lowest_dice"] == 0.0
    # two of the volume and one of nothing, on the network's grid
    assert result["models"]["volume_sd_ml"] == pytest.approx(TRUE_ML / 3**0.5, rel=0.05)
    assert any("disagreement of the 3 models: Dice 0.00" in reason for reason in result["review"]["reasons"])


def test_models_that_were_trained_with_other_settings_do_not_answer_together(tmp_path, run_dir):
    other = make_run(tmp_path / "runs" / "coarse")
    config = yaml.safe_load((other / "config.yaml").read_text())
    (other / "config.yaml").write_text(yaml.safe_dump(config | {"pixdim": 4.5}))
    image = write_nifti(tmp_path / "a.nii.gz")
    answer = refusal(predict, tmp_path / "out", image, ckpt_path=[str(run_dir), str(other)])
    assert answer.startswith("These models do not belong together: pixdim differs.")
    predict(tmp_path / "out", image, ckpt_path=[str(run_dir), str(other)], pixdim=4.0)
    assert result_of(tmp_path / "out", "a")["result"]["models"]["count"] == 2


def test_without_a_checkpoint_the_newest_finished_run_is_used_and_named(tmp_path, capfd):
    for age, name in ((300, "old"), (200, "new"), (100, "unfinished")):
        folder = make_run(tmp_path / "runs" / name, finished=name != "unfinished")
        time = folder.stat().st_mtime - age
        os.utime(folder / "model.pt", (time, time))
    predict(tmp_path / "out", write_nifti(tmp_path / "a.nii"), runs_dir=str(tmp_path / "runs"))
    assert f"Checkpoint: {tmp_path / 'runs' / 'new' / 'model.pt'}" in capfd.readouterr().err
    assert volume_of(tmp_path / "out", "a") == pytest.approx(TRUE_ML)


def test_no_checkpoint_to_use_is_answered(tmp_path, run_dir):
    image = write_nifti(tmp_path / "a.nii")
    message = refusal(predict, tmp_path / "out", image, runs_dir=str(tmp_path / "runs"))
    assert "No finished training was found in" in message
    assert "--ckpt_path" in message
    message = refusal(predict, tmp_path / "out", image, ckpt_path=str(run_dir / "modle.pt"))
    assert "There is no checkpoint" in message
    assert "did you mean" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:600]), "is not a readable checkpoint"),
        (lambda path: path.write_text("<html>"), "is not a readable checkpoint"),
        (lambda path: torch.save({"weight": torch.zeros(1, 3, 1, 1)}, path), "1 tensors are missing"),
        (
            lambda path: torch.save({"weight": torch.zeros(1, 5, 1, 1), "bias": torch.zeros(1)}, path),
            r"belongs to another architecture.*\n.*expects \(1, 3, 1, 1\), the file holds \(1, 5, 1, 1\)",
        ),
        (lambda path: torch.save(["weight"], path), "holds no network weights"),
        (lambda path: torch.save({"weight": Path("pickled")}, path), "is not a readable checkpoint"),
        (
            lambda path: (path.parent / "config.yaml").write_text("bundle_root: bundles/pneumonia"),
            "is a run of bundles/pneumonia, not of bundles/atrium",
        ),
        (lambda path: (path.parent / "config.yaml").write_text("a: [b"), "is damaged or no run's config"),
    ],
)
def test_unusable_checkpoint_is_answered(tmp_path, run_dir, damage, message):
    damage(run_dir / "model.pt")
    answer = refusal(
        predict, tmp_path / "out", write_nifti(tmp_path / "a.nii"), ckpt_path=str(run_dir / "model.pt")
    )
    assert re.search(message, answer), answer
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_written_is_answered(tmp_path, run_dir):
    (tmp_path / "file").touch()
    answer = refusal(
        predict, tmp_path / "file" / "out", write_nifti(tmp_path / "a.nii"), ckpt_path=str(run_dir)
    )
    assert "expected a folder to write the results to" in answer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flips": [0]}, "flips must be a list of lists of axes"),
        ({"flip": [[0]]}, "did you mean 'flips'"),
        ({"batch_size": 0}, "batch_size must be a whole number above 0, got 0"),
        ({"device": "gpu"}, "device must be one that this machine has"),
        ({"pixdim": -1.0}, "pixdim must be"),
    ],
)
def test_mistyped_settings_are_answered(tmp_path, run_dir, options, message):
    image = write_nifti(tmp_path / "a.nii")
    assert message in refusal(predict, tmp_path / "out", image, **{"ckpt_path": str(run_dir), **options})


def test_nothing_to_predict_is_answered(tmp_path, run_dir):
    assert "no such file or folder" in refusal(predict, tmp_path / "out", "nowhere", ckpt_path=str(run_dir))


def test_command_line_answers_without_a_traceback(tmp_path, monkeypatch, capfd):
    code = command(
        monkeypatch, "predict", "atrium", tmp_path, "--out", tmp_path, "--ckpt_path", tmp_path / "no"
    )
    shown = capfd.readouterr()
    assert code == 1
    assert f"Error: There is no checkpoint {tmp_path / 'no'}" in shown.err
    assert "Traceback" not in shown.err
    assert len(shown.err.splitlines()) <= 3


# ---- the settings that the weights were trained with


def spied(monkeypatch, out, image, **options):
    """Predict, and return the shape of what the network saw of the first slices."""
    seen = []
    forward = torch.nn.Conv2d.forward

    def spy(self, slices):
        seen.append(tuple(slices.shape))
        return forward(self, slices)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Conv2d, "forward", spy)
        predict(out, image, **options)
    return seen


def test_settings_of_the_training_are_used_and_the_command_line_goes_first(tmp_path, monkeypatch):
    # 44 x 40 x 12 voxels of 2 x 2 x 4 mm: 87 x 79 x 45 mm between the centres
    image = write_nifti(tmp_path / "a.nii")
    run_dir = str(make_run(tmp_path / "runs" / "a", planes=[2], pixdim=2.0))
    seen = spied(monkeypatch, tmp_path / "out", image, ckpt_path=run_dir)
    assert seen == [(32, 3, 48, 48)]  # 23 slices, padded to 32; 44 x 40 to 48 x 48
    seen = spied(monkeypatch, tmp_path / "out", image, ckpt_path=run_dir, planes=[0], batch_size=24)
    assert seen == [(24, 3, 48, 32)] * 2
    seen = spied(monkeypatch, tmp_path / "out", image, ckpt_path=run_dir, pixdim=4.0, flips=[[], [0]])
    assert seen == [(16, 3, 32, 32)] * 2


def test_expressions_in_the_trainings_settings_are_computed(tmp_path, monkeypatch):
    image = write_nifti(tmp_path / "a.nii")
    settings = {"pixdim": "$8 / 4", "planes": "$[2]", "slice_offsets": "$list(range(-1, 2))"}
    run_dir = str(make_run(tmp_path / "runs" / "a", **settings))
    assert spied(monkeypatch, tmp_path / "out", image, ckpt_path=run_dir) == [(32, 3, 48, 48)]
    assert volume_of(tmp_path / "out", "a") == pytest.approx(TRUE_ML)
    # an override may be an expression as well, and one setting may follow another
    seen = spied(
        monkeypatch, tmp_path / "out", image, ckpt_path=run_dir, pixdim="$2 * 2", flips="$[[], @planes]"
    )
    assert seen == [(16, 3, 32, 32)] * 2


def test_transforms_of_the_training_replace_the_bundles_own(tmp_path, monkeypatch):
    bundle = yaml.safe_load(Path("bundles/atrium/inference.yaml").read_text())
    transforms = [t for t in bundle["deterministic_transforms"] if t["_target_"] != "DivisiblePadd"]
    run_dir = make_run(tmp_path / "runs" / "a", deterministic_transforms=transforms)
    image = write_nifti(tmp_path / "a.nii")
    assert spied(monkeypatch, tmp_path / "out", image, ckpt_path=str(run_dir)) == [(23, 3, 44, 40)]


def test_weights_without_a_config_meet_the_bundles_own_settings(tmp_path, run_dir, capfd):
    (run_dir / "config.yaml").unlink()
    answer = refusal(
        predict, tmp_path / "out", write_nifti(tmp_path / "a.nii"), ckpt_path=str(run_dir / "model.pt")
    )
    assert "belongs to another architecture" in answer
    assert "has no config.yaml beside it: the bundle's own settings are used" in capfd.readouterr().err


def test_monais_entry_point_predicts_with_overrides(tmp_path, run_dir):
    words = {
        "dataset_dir": write_nifti(tmp_path / "a.nii"),
        "output_dir": tmp_path / "out",
        "ckpt_path": run_dir,
    }
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "monai.bundle",
            "run",
            "--config_file",
            "bundles/atrium/inference.yaml",
            *options,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert volume_of(tmp_path / "out", "a") == pytest.approx(TRUE_ML)
    assert f"Checkpoint: {run_dir / 'model.pt'}" in done.stderr
    assert f"ok      a  left_atrium_volume_ml {TRUE_ML:g}" in done.stderr
    assert "Warning" not in done.stderr


# ---- evaluation


@pytest.fixture
def data(tmp_path):
    """Four cases in the Decathlon's layout: the scan, its label exact, one side short, shifted, and empty."""
    root = tmp_path / "data"
    labels = {"exact": body(), "short": body(), "shifted": np.roll(body(), 2, axis=0), "none": body() & False}
    labels["short"][7:13] = False
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for case, label in labels.items():
        write_nifti(root / "imagesTr" / f"{case}.nii.gz")
        write_nifti(root / "labelsTr" / f"{case}.nii.gz", label.astype(np.uint8))
    entries = [{"image": f"imagesTr/{c}.nii.gz", "label": f"labelsTr/{c}.nii.gz"} for c in labels]
    (root / "dataset.json").write_text(json.dumps({"training": entries}))
    return root


def evaluate(**options):
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    run_bundle("bundles/atrium/evaluate.yaml", device="cpu", **given)


def scores(folder):
    with open(folder / "cases.csv", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_known_masks_get_known_scores_on_the_original_grid(tmp_path, run_dir, data, capfd):
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="all")
    rows = scores(run_dir / "all")
    # the label lacks 6 of 30 columns: 2 * 24 / (30 + 24); shifted by 2: 2 * 28 / 60
    wanted = {"exact": 1.0, "short": 48 / 54, "shifted": 56 / 60, "none": 0.0}
    assert {case: float(row["dice"]) for case, row in rows.items()} == pytest.approx(wanted, abs=1e-5)
    assert float(rows["exact"]["hd95_mm"]) == 0.0
    assert float(rows["shifted"]["volume_error_ml"]) == pytest.approx(0, abs=1e-3)
    assert float(rows["short"]["volume_error_ml"]) == pytest.approx(TRUE_ML / 5, abs=1e-3)
    assert float(rows["short"]["volume_error_percent"]) == pytest.approx(25, abs=1e-2)
    assert {row["hd95_mm"] for case, row in rows.items() if case == "none"} == {""}
    content = json.loads((run_dir / "all" / "metrics.json").read_text())
    assert list(content) == ["bundle", "checkpoint", "dataset", "metrics"]
    path = str(run_dir / "model.pt")
    assert content["checkpoint"] == {"path": path, "sha256": sha256_file(path)}
    assert (content["dataset"]["dir"], content["dataset"]["cases"]) == ("data", 4)
    dice = content["metrics"]["mean_dice"]
    assert dice["value"] == pytest.approx(np.mean(list(wanted.values())), abs=1e-5)
    assert dice["ci95"][0] < dice["value"] < dice["ci95"][1]
    figures = {path.name for path in (run_dir / "all" / "figures").iterdir()}
    overlays = {f"overlay_{name}.png" for name in ("worst", "median", "best")}
    assert figures == {"bland_altman.png", "dice_by_case.png"} | overlays
    assert "mean_dice" in capfd.readouterr().err


@pytest.mark.parametrize("pixdim", [1.3, 3.0])
def test_scores_are_of_the_files_grid_whatever_the_networks_is(tmp_path, data, pixdim):
    run_dir = make_run(tmp_path / "runs" / "other", finished=False, pixdim=pixdim, planes=[0, 1, 2])
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="exact")
    row = scores(run_dir / "cases")["exact"]
    # the reference is never resampled
    assert float(row["reference_volume_ml"]) == pytest.approx(TRUE_ML, rel=1e-5)
    assert float(row["dice"]) > 0.9


def test_evaluation_scores_the_very_mask_that_prediction_writes(tmp_path, phantom):
    run_dir = make_run(tmp_path / "runs" / "a", finished=False, pixdim=3.0, planes=[0, 1, 2])
    evaluate(ckpt_path=run_dir, dataset_dir=phantom, cases="all")
    predict(tmp_path / "out", phantom / "imagesTr", ckpt_path=str(run_dir))
    for case in read_cases(phantom):
        mask = nib.load(tmp_path / "out" / case["case"] / "mask.nii.gz")
        label = nib.load(case["label"])
        a, b = np.asarray(mask.dataobj) > 0, np.asarray(label.dataobj) > 0
        row = scores(run_dir / "all")[case["case"]]
        assert float(row["dice"]) == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), rel=1e-4)
        ml = volume_ml(a, label.header.get_zooms())
        assert float(row["volume_ml"]) == pytest.approx(ml, rel=1e-4)
        assert volume_of(tmp_path / "out", case["case"]) == pytest.approx(ml, abs=0.01)


def test_validation_cases_are_the_default_and_lie_in_the_run_folder(tmp_path, run_dir, data):
    write_datalist(load_split(data, 2, ["shifted"]), data, run_dir / "datalist.json")
    evaluate(ckpt_path=run_dir)
    assert list(scores(run_dir)) == ["shifted"]
    evaluate(ckpt_path=run_dir, cases=["exact", "short"], output_dir=tmp_path / "elsewhere")
    assert list(scores(tmp_path / "elsewhere")) == ["exact", "short"]
    assert list(scores(run_dir)) == ["shifted"]


def test_evaluation_joins_the_mlflow_run_of_its_training(tmp_path, finished, monkeypatch):
    import mlflow

    shutil.copytree(finished[0].parents[1], tmp_path / "copy")
    uri = f"sqlite:///{tmp_path / 'copy' / 'mlflow.db'}"
    run_dir = tmp_path / "copy" / "runs" / "reference"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    before = json.loads((run_dir / "mlflow.json").read_text())
    evaluate(ckpt_path=run_dir, cases="train")
    client = mlflow.MlflowClient(tracking_uri=uri)
    run = client.get_run(before["run_id"])
    assert run.info.status == "FINISHED"
    written = json.loads((run_dir / "train" / "metrics.json").read_text())["metrics"]
    assert run.data.metrics["evaluation/train/mean_dice"] == pytest.approx(written["mean_dice"]["value"])
    assert json.loads((run_dir / "mlflow.json").read_text()) == before
    experiment = run.info.experiment_id
    assert len(client.search_runs([experiment])) == 1


def test_evaluation_of_a_run_that_the_store_has_lost_makes_it_anew(tmp_path, data, store, capfd):
    import mlflow

    run_dir = make_run(tmp_path / "runs" / "lost")
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="exact")
    assert "The MLflow run of lost is gone from the store; a new one is made." in capfd.readouterr().err
    known = json.loads((run_dir / "mlflow.json").read_text())
    run = mlflow.MlflowClient(tracking_uri=store).get_run(known["run_id"])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "lost")
    assert run.data.metrics["evaluation/cases/mean_dice"] == pytest.approx(1.0)


def test_evaluation_outside_any_run_folder_makes_no_mlflow_run(tmp_path, run_dir, data, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all.db")
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="exact", output_dir=tmp_path / "out")
    assert list(scores(tmp_path / "out")) == ["exact"]


def test_label_that_does_not_fit_its_image_is_answered_by_name(run_dir, data):
    write_nifti(data / "labelsTr" / "short.nii.gz", body()[:-1].astype(np.uint8))
    answer = refusal(evaluate, ckpt_path=run_dir, dataset_dir=data, cases="all")
    assert "case 'short' must lie on the grid of its label (43, 40, 12), got (44, 40, 12)" in answer
    (data / "labelsTr" / "short.nii.gz").unlink()
    answer = refusal(evaluate, ckpt_path=run_dir, dataset_dir=data, cases="all")
    assert "case 'short': its label is missing" in answer
