"""The cardiac bundle's three YAML files, run through MONAI's own entry point and the command line on tiny phantoms."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import yaml
from conftest import EDGES, ROOT, TINY_XRAYS, command, kept_logging, use_store
from PIL import Image

from pipelines import checkpoints
from pipelines.checks.cardiac import check_cardiac
from pipelines.datasets.datalist import write_datalist
from pipelines.datasets.heart import load_split
from pipelines.errors import UserError
from pipelines.launch import run_bundle
from pipelines.phantoms.xray import write_heart_phantom
from pipelines.runs import read_tracking
from pipelines.tasks.cardiac import NOT_LEARNT

REAL = os.environ.get("REAL_DATA_DIR")
TINY = {**TINY_XRAYS, "max_epochs": 2, "val_interval": 1, "network_def": EDGES}


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    """Ten small X-rays, eight of which train."""
    folder = tmp_path_factory.mktemp("hearts") / "rsna"
    write_heart_phantom(folder, cases=10, seed=0, size=64)
    return folder


@pytest.fixture
def boxes_alone(hearts, tmp_path):
    """The same without thorax.csv."""
    shutil.copytree(hearts, tmp_path / "alone")
    (tmp_path / "alone" / "thorax.csv").unlink()
    return tmp_path / "alone"


@pytest.fixture
def here(tmp_path, empty_store, monkeypatch, untouched):
    return use_store(tmp_path, empty_store, monkeypatch)


def train(hearts, folder, **overrides):
    if "resume" not in overrides:
        given = {"dataset_dir": hearts, "output_dir": folder / "runs", "cache_dir": folder / "cache"}
        overrides = {**TINY, **given, "run_name": "run", **overrides}
    run_bundle("bundles/cardiac/train.yaml", **overrides)
    return folder / "runs" / "run"


@pytest.fixture(scope="module")
def finished(hearts, empty_store, tmp_path_factory):
    """An uninterrupted tiny training: its run folder and its store. Not to be changed."""
    folder = tmp_path_factory.mktemp("finished_cardiac")
    with pytest.MonkeyPatch.context() as monkeypatch, kept_logging():
        uri = use_store(folder, empty_store, monkeypatch)
        return train(hearts, folder), uri


def evaluate(run_dir, **options):
    run_bundle("bundles/cardiac/evaluate.yaml", ckpt_path=run_dir, device="cpu", **options)


def predict(out, *inputs, **options):
    run_bundle(
        "bundles/cardiac/inference.yaml",
        dataset_dir=[str(path) for path in inputs],
        output_dir=out,
        **{"device": "cpu", **options},
    )


def result_of(out, case):
    return json.loads((out / case / "result.json").read_text())


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run_of(run_dir, uri):
    return mlflow.MlflowClient(tracking_uri=uri).get_run(read_tracking(run_dir)["run_id"])


# ---- training


def test_a_run_leaves_weights_every_validated_case_and_pictures(finished):
    run_dir, uri = finished
    assert {"model.pt", "last.pt", "config.yaml", "datalist.json", "cases.csv", "log.txt"} <= set(
        os.listdir(run_dir)
    )
    cases = rows(run_dir / "cases.csv")
    assert [case["case"] for case in cases] == ["1.2.276.0.9", "1.2.276.0.10"]
    best, _ = checkpoints.load(run_dir / "last.pt")["best"]
    assert np.mean([float(case["iou"]) for case in cases]) == pytest.approx(best, abs=1e-5)
    assert (run_dir / "figures" / "validation_1.2.276.0.10.png").is_file()
    run = run_of(run_dir, uri)
    assert run.info.status == "FINISHED"
    assert {"train/loss", "val/loss", "val/mean_iou", "best/mean_iou"} <= set(run.data.metrics)


def test_every_setting_of_the_yaml_is_a_parameter_in_mlflow(finished):
    run = run_of(*finished)
    text = (ROOT / "bundles/cardiac/train.yaml").read_text()
    knobs = re.findall(r"^(\w+): ", text.split("# ---- knobs")[1].split("# ---- ")[0], flags=re.MULTILINE)
    assert len(knobs) > 20
    assert set(knobs) - set(run.data.params) == {"resume"}
    assert run.data.params["thorax"] == "True"


def test_a_training_stopped_and_resumed_ends_as_if_it_had_never_stopped(
    hearts, finished, here, tmp_path, monkeypatch
):
    original, calls = torch.optim.AdamW.step, []

    def stop_at_the_third(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:  # the first of the second epoch
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            train(hearts, tmp_path)
    run_dir = tmp_path / "runs" / "run"
    assert checkpoints.load(run_dir / "last.pt")["epoch"] == 1
    train(hearts, tmp_path, resume=run_dir)
    ours, theirs = (checkpoints.load(folder / "last.pt") for folder in (run_dir, finished[0]))
    for name in ("network", "best_from"):
        assert all(torch.equal(ours[name][key], value) for key, value in theirs[name].items())
    assert ours["history"] == theirs["history"]
    assert ours["best"] == theirs["best"]


def test_without_thorax_csv_the_box_is_learnt_alone_and_that_is_said(boxes_alone, here, tmp_path, capfd):
    run_dir = train(boxes_alone, tmp_path, max_epochs=1, criterion="mse")
    assert (
        "The box is learnt alone, and no cardiothoracic ratio will be given: there is no thorax.csv"
        in " ".join(capfd.readouterr().err.split())
    )
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["thorax"] is False
    evaluate(run_dir)
    names = json.loads((run_dir / "metrics.json").read_text())["metrics"]
    assert "mean_iou" in names
    assert not [name for name in names if name.startswith(("ratio", "cardiomegaly"))]
    predict(tmp_path / "out", next((boxes_alone / "stage_2_train_images").iterdir()), ckpt_path=run_dir)
    found = result_of(tmp_path / "out", first_case(tmp_path / "out"))
    assert found["result"]["cardiothoracic_ratio"] is None
    assert found["result"]["ratio_note"] == NOT_LEARNT


def first_case(out):
    return next(path.name for path in sorted(out.iterdir()) if path.is_dir())


def test_the_thorax_asked_for_and_not_there_is_refused(boxes_alone, here, tmp_path):
    with pytest.raises(
        UserError, match=r"thorax is true, but there is no thorax.csv in [\s\S]*leave --thorax"
    ):
        train(boxes_alone, tmp_path, thorax=True)
    assert not (tmp_path / "runs").exists()


def test_a_thorax_csv_without_any_image_that_trains_is_told_as_that(boxes_alone, here, tmp_path):
    name = load_split(boxes_alone)["val"][0]["case"]
    table = f"name,thorax_x0,thorax_x1,cardiothoracic_ratio\n{name},6,58,0.5\n"
    (boxes_alone / "thorax.csv").write_text(table)
    with pytest.raises(
        UserError, match=r"true, but thorax.csv has no range of any of the 8 images that train in"
    ):
        train(boxes_alone, tmp_path, thorax=True)
    (finding,) = [f for f in check_cardiac(boxes_alone).findings if "that train" in f.message]
    assert (finding.severity, finding.check) == ("warning", "thorax")
    assert "no range of any of the 8 images that train: the network does not learn the" in finding.message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"criterium": "mse"}, "There is no setting 'criterium'; did you mean 'criterion'"),
        ({"criterion": "l2"}, "criterion must be mse or smooth_l1_giou, got 'l2'"),
        ({"scale": [1.2, 0.8]}, "scale must be two numbers from 0.5 to 2"),
        ({"rotate": -5}, "rotate must be a number of degrees"),
        ({"shift": 2}, "shift must be a number from 0 to 0.5"),
        ({"thorax": "yes"}, "thorax must be True, False, or None"),
        ({"size": 8}, "size must be a whole number of pixels from 32"),
        ({"train_cases": ["1.2.276.0.11"]}, "train_cases names case '1.2.276.0.11'.*did you mean"),
        ({"dataset_dir": "/nowhere/heart"}, r"no data set .*/nowhere/heart[\s\S]*phantom cardiac"),
    ],
)
def test_a_mistake_is_answered_in_three_lines_before_a_run_folder_is_made(
    hearts, here, tmp_path, overrides, message
):
    with pytest.raises(UserError, match=message) as refused:
        train(hearts, tmp_path, **overrides)
    assert len(str(refused.value).splitlines()) <= 3
    assert not (tmp_path / "runs").exists()


# ---- evaluation


def test_an_evaluation_joins_its_training_and_stands_beside_the_constant_box(
    finished, hearts, here, tmp_path, monkeypatch
):
    shutil.copytree(finished[0].parents[1], tmp_path / "copy")
    run_dir, uri = tmp_path / "copy" / "runs" / "run", f"sqlite:///{tmp_path / 'copy' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    evaluate(run_dir)
    metrics = json.loads((run_dir / "metrics.json").read_text())["metrics"]
    split = load_split(hearts)
    mean = np.mean([case["box"] for case in split["train"]], axis=0)
    errors = [abs(mean[0] - case["box"][0]) * 64 for case in split["val"]]
    assert metrics["baseline_mae_x0_px"]["value"] == pytest.approx(np.mean(errors))
    assert {"mean_iou", "mae_y1_mm", "ratio_mae", "cardiomegaly_specificity"} <= set(metrics)
    figures = {path.name for path in (run_dir / "figures").iterdir()}
    assert {"gallery.png", "error_by_edge.png"} <= figures
    run = run_of(run_dir, uri)
    assert run.info.run_id == read_tracking(finished[0])["run_id"]
    assert run.data.metrics["evaluation/val/mean_iou"] == pytest.approx(metrics["mean_iou"]["value"])


def test_files_that_cannot_be_read_are_left_out_of_an_evaluation_told_and_listed(
    finished, hearts, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr("pipelines.evaluation.run.TRACKING", "none.json")
    broken = tmp_path / "broken"
    shutil.copytree(hearts, broken)
    images = broken / "stage_2_train_images"
    (images / "1.2.276.0.3.dcm").write_text("<html>")
    (images / "1.2.276.0.8.dcm").write_bytes((images / "1.2.276.0.8.dcm").read_bytes()[:-900])
    run_dir = tmp_path / "run"
    shutil.copytree(finished[0], run_dir)
    evaluate(run_dir, dataset_dir=hearts, cases="all")
    whole = {row["case"]: row for row in rows(run_dir / "all" / "cases.csv")}
    capfd.readouterr()
    evaluate(run_dir, dataset_dir=broken, cases="all", batch_size=4)
    told = "2 of 10 X-rays cannot be read and are left out: 1.2.276.0.3, 1.2.276.0.8"
    assert told in capfd.readouterr().err
    reasons = json.loads((run_dir / "all" / "metrics.json").read_text())["dataset"]["left_out"]
    assert list(reasons) == ["1.2.276.0.3", "1.2.276.0.8"]
    rest = {row["case"]: row for row in rows(run_dir / "all" / "cases.csv")}
    assert rest.keys() == whole.keys() - reasons.keys()
    for case, row in rest.items():
        assert float(row["error_x0_px"]) == pytest.approx(float(whole[case]["error_x0_px"]), abs=0.1)


# ---- prediction, with a "network" whose answer is known


class BrightSpot(torch.nn.Module):
    """The box of what is brighter than half, and the image's whole width as the thorax."""

    def __init__(self):
        super().__init__()
        self.moved = torch.nn.Parameter(torch.zeros(1))  # to the right and down, a share of the image

    def forward(self, images):
        found = []
        for image in images:
            height, width = image.shape[1:]
            rows, columns = torch.nonzero(image[0] > 0.5).unbind(1)
            box = [
                columns.min() / width,
                rows.min() / height,
                (columns.max() + 1) / width,
                (rows.max() + 1) / height,
            ]
            found.append(torch.stack([*box, torch.tensor(0.0), torch.tensor(1.0)]))
        return torch.stack(found) + self.moved


@pytest.fixture
def bright(tmp_path):
    """A run folder with that network, at 128 x 128."""
    folder = tmp_path / "bright"
    folder.mkdir()
    content = {"bundle_root": "bundles/cardiac", "size": 128, "thorax": True}
    content["network_def"] = {"_target_": f"{__name__}.BrightSpot"}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    torch.save(BrightSpot().state_dict(), folder / "model.pt")
    return folder


def picture(path, rows=300, columns=600, box=(240, 90, 420, 180)):
    pixels = np.random.default_rng(0).integers(0, 60, (rows, columns), dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] += 180
    Image.fromarray(pixels).save(path)
    return path


def test_the_box_is_in_the_files_own_pixels_rows_and_columns_never_swapped(bright, here, tmp_path):
    predict(tmp_path / "out", picture(tmp_path / "a.b.png"), ckpt_path=bright, variants=[[1, 0, 0]])
    found = result_of(tmp_path / "out", "a.b")
    # a cell of 128 is 4.7 columns and 2.3 rows
    assert found["result"]["box_xyxy_px"] == pytest.approx([240, 90, 420, 180], abs=5)
    assert found["result"]["cardiothoracic_ratio"] == pytest.approx(180 / 600, abs=0.02)
    assert found["result"]["uncertainty_px"] is None
    assert found["result"]["width_mm"] is None
    assert "no pixel spacing" in found["result"]["mm_missing"]
    assert found["result"]["ratio_note"] == "view unknown"
    assert (found["bundle"], found["input"]) == ("cardiac", "a.b.png")
    with Image.open(tmp_path / "out" / "a.b" / "overlay.png") as overlay:
        assert overlay.width > overlay.height


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_box_of_a_picture_that_exif_turns_is_in_the_upright_pictures_pixels(
    bright, here, tmp_path, suffix
):
    upright = Image.open(picture(tmp_path / "a.png"))  # 600 columns x 300 rows
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned to the left, to be shown turned to the right
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / f"b{suffix}", exif=exif)
    predict(tmp_path / "out", tmp_path / f"b{suffix}", ckpt_path=bright, variants=[[1, 0, 0]])
    found = result_of(tmp_path / "out", "b")
    assert found["result"]["box_xyxy_px"] == pytest.approx([240, 90, 420, 180], abs=5)
    assert [
        text for text in found["warnings"] if "EXIF" in text and "pixels are those of the upright" in text
    ]


def test_evaluation_scores_the_very_box_that_prediction_gives(bright, hearts, here, tmp_path):
    write_datalist(load_split(hearts), hearts, bright / "datalist.json")
    evaluate(bright, dataset_dir=hearts, cases="all")
    predict(tmp_path / "out", hearts / "stage_2_train_images", ckpt_path=bright)
    references = {case["case"]: case["box"] for side in load_split(hearts).values() for case in side}
    for row in rows(bright / "all" / "cases.csv"):
        x0 = result_of(tmp_path / "out", row["case"])["result"]["box_xyxy_px"][0]
        assert x0 - references[row["case"]][0] * 64 == pytest.approx(float(row["error_x0_px"]), abs=0.006)


def test_variants_tell_how_sure_an_edge_is(bright, here, tmp_path):
    predict(tmp_path / "out", picture(tmp_path / "a.png"), ckpt_path=bright)
    found = result_of(tmp_path / "out", "a")["result"]
    assert set(found["uncertainty_px"]) == {"x0", "y0", "x1", "y1", "thorax_x0", "thorax_x1"}
    assert found["box_xyxy_px"] == pytest.approx([240, 90, 420, 180], abs=6)


@pytest.mark.parametrize(("flip_prob", "spread"), [(0, False), (0.1, True)])
def test_mirrored_variants_answer_where_the_training_mirrored_images_and_nowhere_else(
    bright, here, tmp_path, flip_prob, spread
):
    config = yaml.safe_load((bright / "config.yaml").read_text()) | {"flip_prob": flip_prob}
    (bright / "config.yaml").write_text(yaml.safe_dump(config))
    options = {"ckpt_path": bright, "variants": [[1, 0, 0], [-1, 0, 0]]}
    predict(tmp_path / "out", picture(tmp_path / "a.png"), **options)
    # two variants have a standard deviation, one has none
    assert (result_of(tmp_path / "out", "a")["result"]["uncertainty_px"] is not None) == spread


def test_a_training_keeps_whether_it_mirrored_for_whoever_uses_its_weights(finished):
    assert yaml.safe_load((finished[0] / "config.yaml").read_text())["flip_prob"] == 0.5


def test_models_together_give_their_mean_box_and_how_far_they_lie_apart(bright, here, tmp_path):
    other = shutil.copytree(bright, tmp_path / "other")
    torch.save({"moved": torch.tensor([0.02])}, other / "model.pt")
    predict(tmp_path / "one", picture(tmp_path / "a.png"), ckpt_path=bright, variants=[[1, 0, 0]])
    predict(tmp_path / "two", tmp_path / "a.png", ckpt_path=[str(bright), str(other)], variants=[[1, 0, 0]])
    one, two = (result_of(tmp_path / out, "a") for out in ("one", "two"))
    # of 600 columns and 300 rows, half of 0.02 on
    moved = np.subtract(two["result"]["box_xyxy_px"], one["result"]["box_xyxy_px"])
    np.testing.assert_allclose(moved, [6, 3, 6, 3], atol=0.011)
    # two numbers d apart have a standard deviation of d / sqrt(2)
    sd = {name: side * 0.02 / 2**0.5 for name, side in (("x0", 600), ("y0", 300), ("x1", 600), ("y1", 300))}
    assert two["result"]["models"]["count"] == 2
    assert {name: two["result"]["models"]["sd_px"][name] for name in sd} == pytest.approx(sd, abs=0.006)
    assert two["result"]["uncertainty_px"] == two["result"]["models"]["sd_px"]
    assert "models" not in one["result"]
    assert two["model_sha256"][0] == one["model_sha256"]
    with pytest.raises(UserError, match="An evaluation is of one training"):
        evaluate([str(bright), str(other)])


def test_the_command_line_predicts_a_folder_and_one_bad_file_costs_itself(
    bright, here, tmp_path, monkeypatch, capfd
):
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.dcm").write_bytes(b"no image at all")
    words = ["predict", "cardiac", tmp_path / "in", "--out", tmp_path / "out", "--ckpt_path", bright]
    assert command(monkeypatch, *words) == 1
    status = {row["case"]: row["status"] for row in rows(tmp_path / "out" / "summary.csv")}
    assert status == {"bad": "failed", "good": "done"}
    assert "Traceback" not in capfd.readouterr().err


def test_unusable_variants_are_answered(bright, here, tmp_path):
    with pytest.raises(UserError, match=r"variants must be a list of \[scale"):
        predict(tmp_path / "out", picture(tmp_path / "a.png"), ckpt_path=bright, variants=[[1, 0]])


# ---- as other tools see the bundle


def test_train_yaml_has_every_property_that_monai_asks_for(hearts, here, tmp_path):
    from monai.bundle import ConfigWorkflow

    places = {
        "dataset_dir": str(hearts),
        "output_dir": str(tmp_path / "runs"),
        "cache_dir": str(tmp_path / "cache"),
    }
    workflow = ConfigWorkflow("bundles/cardiac/train.yaml", workflow_type="train", **{**TINY, **places})
    workflow.initialize()
    assert workflow.check_properties() == []


def test_inference_yaml_has_every_property_that_monai_asks_for(hearts, finished, here):
    from monai.bundle import ConfigWorkflow

    places = {
        "dataset_dir": str(hearts / "stage_2_train_images"),
        "ckpt_path": str(finished[0]),
        "device": "cpu",
    }
    workflow = ConfigWorkflow("bundles/cardiac/inference.yaml", workflow_type="infer", **places)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.evaluator.run()
    assert workflow.evaluator.state.output[0]["pred"].shape == (6,)


# ---- real X-rays


@pytest.mark.skipif(not REAL, reason="REAL_DATA_DIR is not set")
def test_real_hearts_train_evaluate_and_predict(here, tmp_path):
    folder = Path(REAL) / "heart"
    names = [case["case"] for case in load_split(folder)["train"]]
    sides = {"train_cases": names[:4] + names[-4:], "val_cases": names[4:6] + names[-6:-4]}
    run_dir = train(folder, tmp_path, max_epochs=1, **sides)
    evaluate(run_dir)
    metrics = json.loads((run_dir / "metrics.json").read_text())["metrics"]
    assert metrics["mean_iou"]["cases"] == 4
    assert not [name for name in metrics if name.endswith("_mm")]  # these files give no spacing
    assert metrics["baseline_mean_iou"]["value"] > 0.4
    predict(tmp_path / "out", folder / "stage_2_train_images" / f"{names[-1]}.dcm", ckpt_path=run_dir)
    found = result_of(tmp_path / "out", names[-1])["result"]
    assert found["ratio_note"] is None  # PA
    assert 0 <= found["box_xyxy_px"][0] <= found["box_xyxy_px"][2] <= 512
