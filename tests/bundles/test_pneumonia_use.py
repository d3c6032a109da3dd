"""The pneumonia bundle's evaluate.yaml and inference.yaml, with weights whose answer is known: bright is pneumonia."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, command
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import MetaTensor
from monai.transforms import Compose
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)
from scipy.special import expit

from pipelines.datasets.datalist import write_datalist
from pipelines.datasets.images import ImageDataset, prepare_cases
from pipelines.datasets.rsna import load_split, read_cases
from pipelines.errors import UserError
from pipelines.evaluation import calibration as calibrations
from pipelines.files import sha256_file
from pipelines.launch import run_bundle
from pipelines.phantoms.xray import write_pneumonia_phantom

SECRETS = (
    "Doe",
    "Jane",
    "SECRET",
    "19700101",
    "20240229",
    "St. Elsewhere",
    "Dr. Who",
    "1.2.826.0.1.3680043.8.498.7",
)
# The mean of 8 x 8 places decides: its logit is 20 times its brightness less 10.
BRIGHT = (
    "$torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.AdaptiveAvgPool2d(1), "
    "torch.nn.Flatten(), torch.nn.Linear(1, 1))"
)
ACTIVATION = {"_target_": "pipelines.activation.ActivationInferer"}
ACTIVATION |= {"flips": "@flips", "features": "0", "head": "3"}
PLACES = {"activation": ACTIVATION, "device": "cpu"}
SIZE = 64


@pytest.fixture(autouse=True)
def here(monkeypatch, untouched):
    monkeypatch.chdir(ROOT)


def make_run(folder, calibrated=True):
    """A run folder as a training leaves it, with hand-set weights."""
    folder.mkdir(parents=True)
    settings = {"bundle_root": "bundles/pneumonia", "size": SIZE, "network_def": BRIGHT}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    torch.save({"3.weight": torch.tensor([[20.0]]), "3.bias": torch.tensor([-10.0])}, folder / "model.pt")
    (folder / "mlflow.json").write_text(json.dumps({"run_id": "0", "status": "FINISHED"}))
    if calibrated:
        points = {
            name: {"threshold": threshold, "sensitivity": 0.9, "specificity": 0.9}
            for name, threshold in (("rule_out", 0.2), ("balanced", 0.5), ("rule_in", 0.8))
        }
        calibration = calibrations.Calibration(temperature=2.0, operating_points=points, cases=100)
        calibrations.save(calibration, folder / "model.pt")
    return folder


@pytest.fixture
def run_dir(tmp_path):
    return make_run(tmp_path / "runs" / "bright")


def chest(mean, rows=100, columns=120):
    """(rows, columns) uint8 of a known mean, with the contrast of an X-ray, darker on the left than on the right."""
    ramp = np.linspace(-25, 25, columns)[None].repeat(rows, axis=0)
    return np.rint(mean + ramp + 30 * (-1) ** np.arange(columns)[None]).astype(np.uint8)


def probability(mean, temperature=2.0):
    return expit((20 * mean / 255 - 10) / temperature)


def write_dicom(path, pixels, bits=8, photometric="MONOCHROME2", syntax=ExplicitVRLittleEndian, **tags):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID, data.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    data.Modality, data.BodyPartExamined, data.ViewPosition = "DX", "CHEST", "PA"
    data.PatientName, data.PatientID, data.PatientBirthDate = "Doe^Jane", "SECRET-7", "19700101"
    data.StudyDate, data.InstitutionName, data.ReferringPhysicianName = "20240229", "St. Elsewhere", "Dr. Who"
    data.SeriesInstanceUID = SECRETS[-1]
    for name, value in tags.items():
        setattr(data, name, value)
    data.set_pixel_data(np.ascontiguousarray(pixels), photometric, bits)
    if syntax == RLELossless:
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.compress(RLELossless)
    data.save_as(path, enforce_file_format=True)
    return path


def predict(out, *inputs, **options):
    given = {"dataset_dir": [str(path) for path in inputs], "output_dir": str(out), **PLACES, **options}
    run_bundle("bundles/pneumonia/inference.yaml", **given)


def record_of(out, case):
    return json.loads((out / case / "result.json").read_text())


def rows_of(path):
    with open(path, newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


# ---- prediction


def test_every_format_of_one_x_ray_gives_its_probability(tmp_path, run_dir):
    folder, pixels = tmp_path / "in", chest(120)
    folder.mkdir()
    deep = pixels.astype(np.uint16) * 16 + 100
    write_dicom(folder / "plain.1.2.dcm", pixels)
    write_dicom(folder / "rle.dcm", pixels, syntax=RLELossless)
    write_dicom(folder / "deep.dcm", deep, 12, WindowCenter=100 + 128 * 16, WindowWidth=255 * 16)
    write_dicom(
        folder / "rescaled.dcm",
        deep,
        12,
        RescaleSlope=2,
        RescaleIntercept=-200,
        WindowCenter=4096,
        WindowWidth=8160,
    )
    write_dicom(folder / "mono1.dcm", 255 - pixels, photometric="MONOCHROME1")
    image = Image.fromarray(pixels)
    image.save(folder / "grey.png")
    image.convert("RGBA").save(folder / "rgba.png")
    image.convert("RGB").quantize(256).save(folder / "palette.png")
    image.save(folder / "photo.jpg", quality=95)
    predict(tmp_path / "out", folder, ckpt_path=str(run_dir))
    found = rows_of(tmp_path / "out" / "summary.csv")
    assert len(found) == 9
    for case, row in found.items():
        assert float(row["probability"]) == pytest.approx(probability(120), abs=0.005), case
        assert {path.name for path in (tmp_path / "out" / case).iterdir()} == {"result.json", "overlay.png"}


def test_a_result_holds_probability_decision_operating_point_and_origin(tmp_path, run_dir):
    predict(tmp_path / "out", write_dicom(tmp_path / "a.b.dcm", chest(140)), ckpt_path=str(run_dir))
    record = record_of(tmp_path / "out", "a.b")
    assert list(record) == ["bundle", "model_sha256", "config_sha256", "input", "result", "warnings"]
    assert (record["bundle"], record["input"], record["warnings"]) == ("pneumonia", "a.b.dcm", [])
    assert record["model_sha256"] == sha256_file(run_dir / "model.pt")
    assert record["result"] == {
        "probability": pytest.approx(probability(140), abs=0.002),
        "decision": "positive",
        "operating_point": "balanced",
        "threshold": 0.5,
    }


@pytest.mark.parametrize(
    ("point", "decision"), [("rule_out", "positive"), ("balanced", "positive"), ("rule_in", "negative")]
)
def test_the_operating_point_is_the_users_choice(tmp_path, run_dir, point, decision):
    # 0.66: above 0.2 and 0.5, below 0.8
    image = write_dicom(tmp_path / "a.dcm", chest(144))
    predict(tmp_path / "out", image, ckpt_path=str(run_dir), operating_point=point)
    result = record_of(tmp_path / "out", "a")["result"]
    assert (result["decision"], result["operating_point"]) == (decision, point)


def test_an_x_ray_and_its_monochrome1_twin_have_the_same_probability(tmp_path, run_dir):
    (tmp_path / "in").mkdir()
    write_dicom(tmp_path / "in" / "two.dcm", chest(133))
    write_dicom(tmp_path / "in" / "one.dcm", 255 - chest(133), photometric="MONOCHROME1")
    predict(tmp_path / "out", tmp_path / "in", ckpt_path=str(run_dir))
    one, two = (record_of(tmp_path / "out", name)["result"] for name in ("one", "two"))
    assert one == two
    overlays = [(tmp_path / "out" / name / "overlay.png") for name in ("one", "two")]
    # the pictures differ by their names in the note below alone
    first, second = (np.asarray(Image.open(path))[:-20] for path in overlays)
    np.testing.assert_array_equal(first, second)


def test_warnings_tell_what_is_odd_about_an_input(tmp_path, run_dir):
    (tmp_path / "in").mkdir()
    write_dicom(tmp_path / "in" / "lateral.dcm", chest(120), ViewPosition="LL")
    write_dicom(tmp_path / "in" / "hand.dcm", chest(120), BodyPartExamined="HAND")
    write_dicom(tmp_path / "in" / "small.dcm", chest(120, 40, 50), ViewPosition="")
    write_dicom(tmp_path / "in" / "flat.dcm", (chest(120) // 8).astype(np.uint8))
    predict(tmp_path / "out", tmp_path / "in", ckpt_path=str(run_dir))
    found = {case: row["warnings"] for case, row in rows_of(tmp_path / "out" / "summary.csv").items()}
    assert "not a frontal view (LL)" in found["lateral"]
    assert "no chest X-ray" in found["hand"]
    assert "upscaled: 40 rows x 50 columns became 64 x 64" in found["small"]
    assert "the view (AP or PA) is unknown" in found["small"]
    assert "hardly any contrast" in found["flat"]


def test_weights_without_a_calibration_are_used_with_a_warning(tmp_path, capfd):
    run_dir = make_run(tmp_path / "runs" / "raw", calibrated=False)
    predict(tmp_path / "out", write_dicom(tmp_path / "a.dcm", chest(120)), ckpt_path=str(run_dir))
    record = record_of(tmp_path / "out", "a")
    assert record["result"]["probability"] == pytest.approx(probability(120, temperature=1), abs=0.005)
    assert record["warnings"] == [
        "the probability is not calibrated and the threshold not chosen on patients"
    ]
    assert "has no calibration.json beside it" in capfd.readouterr().err


def test_a_mistyped_operating_point_is_refused_before_anything_is_read(tmp_path, run_dir):
    with pytest.raises(
        UserError, match="operating_point must be one of rule_out, balanced, rule_in, got 'rulein'"
    ):
        predict(tmp_path / "out", tmp_path, ckpt_path=str(run_dir), operating_point="rulein")
    assert not (tmp_path / "out").exists()


def test_nothing_of_a_header_reaches_a_file_or_the_console(tmp_path, run_dir, monkeypatch, capfd):
    (tmp_path / "in").mkdir()
    write_dicom(tmp_path / "in" / "good.dcm", chest(120), PatientComments="SECRET", StudyDescription="Doe")
    write_dicom(
        tmp_path / "in" / "odd.dcm", chest(120), AccessionNumber="SECRET", ViewPosition="DOE", Modality="CT"
    )
    cut = write_dicom(tmp_path / "in" / "cut.dcm", chest(120))
    cut.write_bytes(cut.read_bytes()[:-3000])
    monkeypatch.setattr(
        "pipelines.launch.run_bundle", lambda path, **given: run_bundle(path, **given, **PLACES)
    )
    words = ("predict", "pneumonia", tmp_path / "in", "--out", tmp_path / "out", "--ckpt_path", run_dir)
    assert command(monkeypatch, *words) == 1
    shown = capfd.readouterr()
    assert record_of(tmp_path / "out", "good")["result"]["decision"] == "negative"
    written = [shown.out.encode(), shown.err.encode()]
    for path in (tmp_path / "out").rglob("*"):
        written += [str(path.relative_to(tmp_path)).encode(), path.read_bytes() if path.is_file() else b""]
    for secret in SECRETS:
        assert not any(secret.casefold().encode() in text.lower() for text in written), secret


def test_models_together_give_the_mean_of_their_probabilities_and_thresholds(tmp_path, run_dir, monkeypatch):
    other = make_run(tmp_path / "runs" / "other", calibrated=False)
    torch.save({"3.weight": torch.tensor([[20.0]]), "3.bias": torch.tensor([-8.0])}, other / "model.pt")
    write_dicom(tmp_path / "a.dcm", chest(120))
    monkeypatch.setattr(
        "pipelines.launch.run_bundle", lambda path, **given: run_bundle(path, **given, **PLACES)
    )
    words = ["predict", "pneumonia", tmp_path / "a.dcm", "--out", tmp_path / "out"]
    assert command(monkeypatch, *words, "--ckpt_path", run_dir, "--ckpt_path", other) == 0
    record = record_of(tmp_path / "out", "a")
    # the other's logit is 2 higher, and its temperature 1
    each = [probability(120), expit(20 * 120 / 255 - 8)]
    assert record["result"]["probability"] == pytest.approx(np.mean(each), abs=0.01)
    assert record["result"]["decision"] == "positive"
    assert record["result"]["threshold"] == 0.5
    assert record["result"]["models"]["probability_sd"] == pytest.approx(np.std(each, ddof=1), abs=0.01)
    assert (record["result"]["models"]["count"], record["result"]["models"]["positive"]) == (2, 1)
    assert len(record["model_sha256"]) == 2
    assert any("not calibrated" in text for text in record["warnings"])


def test_monais_entry_point_predicts_the_newest_finished_run(tmp_path, run_dir):
    write_dicom(tmp_path / "a.dcm", chest(120))
    words = {
        "dataset_dir": tmp_path / "a.dcm",
        "output_dir": tmp_path / "out",
        "runs_dir": tmp_path / "runs",
        **PLACES,
    }
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    start = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "bundles/pneumonia/inference.yaml"]
    done = subprocess.run([*start, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert record_of(tmp_path / "out", "a")["result"]["probability"] == pytest.approx(
        probability(120), abs=0.005
    )
    assert f"Checkpoint: {run_dir / 'model.pt'}" in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.skipif("REAL_DATA_DIR" not in os.environ, reason="REAL_DATA_DIR is not set")
def test_odd_real_files_are_predicted_with_warnings_or_refused_with_a_reason(tmp_path, run_dir):
    with pytest.raises(SystemExit):
        predict(tmp_path / "out", Path(os.environ["REAL_DATA_DIR"]) / "odd_dicom", ckpt_path=str(run_dir))
    found = rows_of(tmp_path / "out" / "summary.csv")
    assert "a web page" in found["html_page_named"]["reason"]
    assert "expected an X-ray (Modality CR or DX), got CT" in found["nih_modality_ct"]["reason"]
    assert "no chest X-ray" in found["nih_wrong_body_part"]["warnings"]
    assert "the view (AP or PA) is unknown" in found["nih_unknown_position"]["warnings"]
    twins = [float(found[f"rsna_format_{name}"]["probability"]) for name in ("real", "monochrome1")]
    assert twins[0] + twins[1] != pytest.approx(1, abs=1e-3)  # the one is not the other's negative
    assert sum(row["status"] == "done" for row in found.values()) == 5


# ---- what the network sees


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    """Twenty phantom X-rays in the challenge's layout."""
    folder = tmp_path_factory.mktemp("chests") / "rsna"
    write_pneumonia_phantom(folder, cases=20, seed=0, size=160)
    return folder


def test_training_evaluation_and_prediction_give_the_network_the_same_pixels(tmp_path, chests, run_dir):
    parser = ConfigParser()
    parser.read_config("bundles/pneumonia/inference.yaml")
    parser["size"] = SIZE
    parser["dataset_dir"] = str(chests / "stage_2_train_images")
    from_files = {sample["case"]: sample["image"] for sample in parser.get_parsed_content("dataset")}
    cases = read_cases(chests)
    deterministic = Compose(parser.get_parsed_content("deterministic_transforms"))
    from_cache = ImageDataset(cases, prepare_cases(cases, tmp_path / "cache", SIZE, chests), deterministic)
    assert len(from_cache) == len(from_files) == 20
    for sample in from_cache:
        theirs = from_files[sample["case"]]
        assert isinstance(theirs, MetaTensor)
        assert sample["image"].dtype == torch.float32
        assert torch.equal(sample["image"], theirs.as_tensor())
    task = parser.get_parsed_content("preprocessing")
    assert task.transforms[0].__class__ is deterministic.transforms[0].__class__


def test_axes_are_never_swapped_on_the_way_to_the_network(tmp_path):
    pixels = np.full((120, 80), 30, np.uint8)
    pixels[:30] = 200  # bright above
    pixels[60:, :10] = 120  # a mark at the lower left
    write_dicom(tmp_path / "a.dcm", pixels)
    parser = ConfigParser()
    parser.read_config("bundles/pneumonia/inference.yaml")
    parser["size"], parser["dataset_dir"] = SIZE, str(tmp_path)
    image = parser.get_parsed_content("dataset")[0]["image"]
    assert image.shape == (1, SIZE, SIZE)
    assert image[0, :12].min() > 0.7
    assert image[0, 40:, :5].mean() > 0.4 > 0.2 > image[0, 40:, 20:].mean()


def test_monai_finds_every_property_of_an_inference_bundle(tmp_path, run_dir):
    (tmp_path / "in").mkdir()
    write_dicom(tmp_path / "in" / "a.dcm", chest(120))
    workflow = ConfigWorkflow(
        config_file="bundles/pneumonia/inference.yaml",
        meta_file="bundles/pneumonia/metadata.json",
        logging_file="bundles/pneumonia/logging.conf",
        workflow_type="inference",
        dataset_dir=str(tmp_path / "in"),
        ckpt_path=str(run_dir),
        **PLACES,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    evaluator = workflow.parser.get_parsed_content("evaluator")
    evaluator.run()
    assert float(evaluator.state.output[0]["pred"]) == pytest.approx(
        probability(120, temperature=1), abs=0.005
    )


# ---- evaluation


def write_challenge(root, means, labels, boxes):
    """Flat X-rays of known brightness in the challenge's layout: ``bright`` decides their probability."""
    (root / "stage_2_train_images").mkdir(parents=True)
    lines = ["patientId,x,y,width,height,Target"]
    for index, (mean, label) in enumerate(zip(means, labels, strict=True)):
        path = root / "stage_2_train_images" / f"c{index:02d}.dcm"
        view = {"ViewPosition": "AP" if index % 2 else "PA", "PatientSex": "F", "PatientAge": "050Y"}
        write_dicom(path, chest(mean), **view)
        lines += [f"c{index:02d},{boxes.get(index, ',,,')},{label}"]
    (root / "stage_2_train_labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def data(tmp_path):
    """Sixteen cases: of 64 pairs of a positive and a negative, four are in the wrong order."""
    means = [80, 90, 100, 105, 110, 115, 120, 150, 118, 140, 145, 155, 160, 165, 170, 180]
    # the right edge is the brightest: c14's box holds it, c15's does not
    boxes = {14: "100,0,20,100", 15: "0,0,20,100"}
    return write_challenge(tmp_path / "data", means, [0] * 8 + [1] * 8, boxes)


def evaluate(**options):
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    run_bundle("bundles/pneumonia/evaluate.yaml", **PLACES, **given)


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())["metrics"]


def test_known_probabilities_get_known_scores(tmp_path, run_dir, data, monkeypatch):
    monkeypatch.setattr("pipelines.evaluation.run.TRACKING", "none.json")
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="all")
    found, rows = metrics_of(run_dir / "all"), rows_of(run_dir / "all" / "cases.csv")
    # 118 is below 120 and 150, 140 and 145 below 150: four wrong pairs of 64
    assert found["auroc"]["value"] == pytest.approx(60 / 64)
    assert found["auroc"]["ci95"][0] < 60 / 64 < found["auroc"]["ci95"][1] <= 1
    # at 0.5, i.e. a mean of 127.5: seven of eight each
    assert found["sensitivity_balanced"]["value"] == found["specificity_balanced"]["value"] == 7 / 8
    assert float(rows["c00"]["probability"]) == pytest.approx(probability(80), abs=0.005)
    assert float(rows["c00"]["uncalibrated"]) == pytest.approx(probability(80, 1), abs=0.005)
    assert (rows["c08"]["decision_rule_out"], rows["c08"]["decision_balanced"]) == ("1", "0")
    assert (rows["c00"]["view"], rows["c00"]["sex"], float(rows["c00"]["age"])) == ("PA", "F", 50)
    assert (found["pointing_game"]["value"], found["pointing_game"]["cases"]) == (0.5, 2)
    assert found["temperature"]["value"] == 2.0
    figures = {path.name for path in (run_dir / "all" / "figures").iterdir()}
    names = ["roc", "precision_recall", "reliability", "confusion", "errors"]
    names += [f"overlay_{which}" for which in ("worst", "median", "best")]
    assert figures == {f"{name}.png" for name in names}


def test_validation_cases_calibrate_and_say_that_they_did(run_dir, data, monkeypatch, capfd):
    monkeypatch.setattr("pipelines.evaluation.run.TRACKING", "none.json")
    names = [f"c{index:02d}" for index in (0, 1, 6, 7, 8, 9, 14, 15)]
    write_datalist(
        load_split(data, [f"c{i:02d}" for i in (2, 3, 10, 11)], names), data, run_dir / "datalist.json"
    )
    (run_dir / "calibration.json").unlink()
    evaluate(ckpt_path=run_dir)
    assert (
        "8 of the 8 scored cases chose its weights, temperature and operating points"
        in capfd.readouterr().err
    )
    fitted = calibrations.load(run_dir / "model.pt")
    rows, found = rows_of(run_dir / "cases.csv"), metrics_of(run_dir)
    assert set(rows) == set(names)
    assert fitted.cases == 8
    assert found["temperature"]["value"] == pytest.approx(fitted.temperature)
    assert "chosen on these very cases" in found["sensitivity_balanced"]["note"]
    # the other parts are then scored with it, and prediction uses it
    evaluate(ckpt_path=run_dir, cases="test")
    shown = capfd.readouterr().err
    assert "scored cases" not in shown
    scored = rows_of(run_dir / "test" / "cases.csv")
    assert set(scored) == {f"c{i:02d}" for i in (4, 5, 12, 13)}
    predict(run_dir / "out", data / "stage_2_train_images", ckpt_path=str(run_dir))
    for case, row in {**rows, **scored}.items():
        result = record_of(run_dir / "out", case)["result"]
        assert result["probability"] == pytest.approx(float(row["probability"]), abs=1e-4)
        assert result["decision"] == ("positive" if row["decision_balanced"] == "1" else "negative")
    evaluate(ckpt_path=run_dir, cases="train")
    assert "4 of the 4 scored cases trained this network: expect less" in capfd.readouterr().err


def test_a_part_with_one_label_alone_is_scored_as_far_as_it_goes(run_dir, data, monkeypatch):
    monkeypatch.setattr("pipelines.evaluation.run.TRACKING", "none.json")
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="c00,c01")
    found = metrics_of(run_dir / "cases")
    assert found["auroc"]["value"] is None
    assert found["specificity_balanced"]["value"] == 1.0


def test_files_that_cannot_be_read_are_left_out_of_an_evaluation_told_and_listed(
    run_dir, data, monkeypatch, capfd
):
    monkeypatch.setattr("pipelines.evaluation.run.TRACKING", "none.json")
    images = data / "stage_2_train_images"
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="all")
    whole = rows_of(run_dir / "all" / "cases.csv")
    (images / "c03.dcm").write_text("<html>")
    (images / "c07.dcm").write_bytes((images / "c07.dcm").read_bytes()[:-900])
    capfd.readouterr()
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="all", batch_size=4)
    assert "2 of 16 X-rays cannot be read and are left out: c03, c07" in capfd.readouterr().err
    content = json.loads((run_dir / "all" / "metrics.json").read_text())
    assert content["dataset"]["cases"] == 14
    reasons = content["dataset"]["left_out"]
    assert list(reasons) == ["c03", "c07"]
    assert "c03.dcm: expected a DICOM, PNG or JPEG file, got a web page" in reasons["c03"]
    rest = rows_of(run_dir / "all" / "cases.csv")
    assert rest == {case: row for case, row in whole.items() if case not in reasons}
    # c07 was the positive-looking negative at 150 above c08 at 118, c09 at 140 and c10 at 145
    assert content["metrics"]["auroc"]["value"] == pytest.approx(1 - 1 / 48)


def test_an_evaluation_of_which_nothing_can_be_read_is_refused(run_dir, data, capfd):
    for path in (data / "stage_2_train_images").iterdir():
        path.write_text("<html>")
    with pytest.raises(UserError, match="expected at least one readable case to evaluate, got none"):
        evaluate(ckpt_path=run_dir, dataset_dir=data, cases="all")
    assert "16 of 16 X-rays cannot be read" in capfd.readouterr().err
    assert not (run_dir / "all").exists()


def test_the_header_alone_is_scored_where_the_training_left_its_weights(run_dir, data, monkeypatch):
    monkeypatch.setattr("pipelines.evaluation.run.TRACKING", "none.json")
    # AP weighs 2: of eight positives and eight negatives four each are AP
    weights = [0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    (run_dir / "header_baseline.json").write_text(json.dumps({"weights": weights}))
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="all")
    found = metrics_of(run_dir / "all")
    assert found["auroc_header_only"]["value"] == 0.5
    assert found["auroc_gain_over_header"]["value"] == pytest.approx(60 / 64 - 0.5)


def test_intervals_resample_the_patients_of_a_mapping_table(run_dir, data, monkeypatch):
    monkeypatch.setattr("pipelines.evaluation.run.TRACKING", "none.json")
    rows = [f"c{index:02d},one" for index in range(16)]
    (data / "mine.csv").write_text("\n".join(["patientId,patient", *rows]) + "\n")
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="all", patients="mine.csv")
    assert metrics_of(run_dir / "all")["auroc"]["ci95"] is None  # all images are of one patient


def test_evaluation_joins_the_mlflow_run_of_its_training(tmp_path, run_dir, data, store):
    import mlflow

    shutil.rmtree(run_dir / "figures", ignore_errors=True)
    evaluate(ckpt_path=run_dir, dataset_dir=data, cases="all")
    known = json.loads((run_dir / "mlflow.json").read_text())
    client = mlflow.MlflowClient(tracking_uri=store)
    run = client.get_run(known["run_id"])
    assert run.data.metrics["evaluation/all/auroc"] == pytest.approx(60 / 64)
    assert any(
        item.path.endswith("figures") for item in client.list_artifacts(known["run_id"], "evaluation/all")
    )
