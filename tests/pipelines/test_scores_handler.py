"""The handler, on a real SupervisedEvaluator and tiny arrays."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose, CopyItemsd

from pipelines.errors import UserError
from pipelines.evaluation.handler import SegmentationScores

AFFINE = torch.diag(torch.tensor([10.0, 5.0, 20.0, 1.0], dtype=torch.float64))  # 1 mL a voxel
OBLIQUE = torch.tensor(
    [[0, -5.0, 0, 30], [10, 0, 0, -7], [0, 0, -20.0, 90], [0, 0, 0, 1]], dtype=torch.float64
)


def volume(voxels, affine=AFFINE):
    """(1, 8, 9, 10) with a line of that many voxels along the third axis."""
    array = torch.zeros(1, 8, 9, 10)
    array[0, 3, 4, 1 : 1 + voxels] = 1
    return MetaTensor(array, affine=affine)


def item(case, predicted, reference, affine=AFFINE):
    image = volume(predicted, affine)
    return {"image": image, "original": image * 500, "reference": volume(reference, affine), "case": case}


ITEMS = [item("a", 4, 4), item("b", 3, 6), item("c", 2, 1, OBLIQUE)]


@pytest.fixture
def handler(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    return SegmentationScores(tmp_path / "run", "atrium", tmp_path / "model.pt", {"dir": "d", "hash": "h"})


def evaluate(handler, items):
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=torch.nn.Identity(),
        prepare_batch=lambda batch, *_, **__: (batch["image"], None),
        postprocessing=Compose([AsDiscreted("pred", threshold=0.5), CopyItemsd("pred", names="copy")]),
        val_handlers=[handler],
    )
    engine.run()
    return engine


def test_an_evaluation_writes_the_scores_of_each_case_in_true_spacing(handler):
    evaluate(handler, ITEMS)
    cases = pd.read_csv(handler.folder / "cases.csv")
    assert cases["case"].tolist() == ["a", "b", "c"]
    assert cases["dice"].tolist() == pytest.approx([1, 6 / 9, 2 / 3], abs=1e-5)
    assert cases["volume_ml"].tolist() == pytest.approx([4, 3, 2])
    assert cases["reference_volume_ml"].tolist() == pytest.approx([4, 6, 1])
    # b's reference runs 20, 40 and 60 mm past the prediction: 95th percentile of 0 0 0 20 40 60
    assert cases["hd95_mm"].tolist() == pytest.approx([0, 55, 19])
    assert cases["asd_mm"].tolist() == pytest.approx([0, 120 / 9, 20 / 3], abs=1e-4)


def test_an_evaluation_writes_the_contract_and_the_figures(handler):
    evaluate(handler, ITEMS)
    content = json.loads((handler.folder / "metrics.json").read_text())
    assert content["bundle"] == "atrium"
    assert content["dataset"] == {"dir": "d", "hash": "h", "cases": 3}
    assert content["metrics"]["mean_dice"]["value"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert content["metrics"]["volume_bias_ml"]["value"] == pytest.approx((0 - 3 + 1) / 3)
    assert sorted(path.name for path in (handler.folder / "figures").iterdir()) == [
        "bland_altman.png",
        "dice_by_case.png",
        "overlay_best.png",
        "overlay_median.png",
        "overlay_worst.png",
    ]


def test_the_metrics_reach_handlers_of_the_same_epoch(handler):
    seen = {}
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.update(engine.state.metrics))
    engine.run([[{**one, "pred": one["image"]}] for one in ITEMS])
    assert seen["mean_dice"] == pytest.approx(7 / 9)
    assert all(isinstance(value, float) and np.isfinite(value) for value in seen.values())


def test_one_case_has_scores_without_intervals_and_one_overlay(handler):
    engine = evaluate(handler, ITEMS[1:2])
    metrics = json.loads((handler.folder / "metrics.json").read_text())["metrics"]
    assert metrics["mean_dice"]["value"] == pytest.approx(2 / 3)
    assert metrics["volume_limits_lower_ml"]["value"] is None
    assert all(metric["ci95"] is None for metric in metrics.values())
    assert "volume_limits_lower_ml" not in engine.state.metrics
    assert [path.name for path in (handler.folder / "figures").glob("overlay_*")] == ["overlay_worst.png"]


def test_a_second_evaluation_starts_afresh(handler):
    evaluate(handler, ITEMS)
    evaluate(handler, ITEMS[:2])
    assert pd.read_csv(handler.folder / "cases.csv")["case"].tolist() == ["a", "b"]
    assert not (handler.folder / "figures" / "overlay_median.png").exists()


def test_a_prediction_of_nothing_is_scored(handler):
    evaluate(handler, [item("a", 0, 4), item("b", 0, 0)])
    content = json.loads((handler.folder / "metrics.json").read_text())
    assert content["metrics"]["mean_dice"]["value"] == pytest.approx(0.5)
    assert content["metrics"]["mean_hd95_mm"]["cases"] == 1


def test_what_is_kept_of_a_case_is_small():
    shape = (1, 256, 256, 60)
    mask = MetaTensor(torch.zeros(shape), affine=torch.eye(4))
    mask[0, 100:140, 100:140, 20:40] = 1
    handler = SegmentationScores("unused", "atrium", "unused", {})
    engine = Engine(lambda engine, batch: batch)
    engine.add_event_handler(Events.ITERATION_COMPLETED, handler._score)
    engine.run([[{"case": "a", "pred": mask, "reference": mask, "original": mask}]])
    (shown, _), *rest = handler._shown
    assert not rest
    assert shown.image.nbytes + shown.prediction.nbytes + shown.reference.nbytes == 3 * 90 * 90 * 5
    assert all(array.base is None or array.base.nbytes < 10**6 for array in shown[:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"case": None}, "needs case, pred, reference, original in each item .* but case is missing"),
        ({"pred": volume(3) * 0.4}, "'pred' of case 'b' must be one channel of 0 and 1, got 1 channel.*0.4"),
        (
            {"reference": volume(3) * 2},
            "'reference' of case 'b' must be one channel of 0 and 1.*2.0.*binarise",
        ),
        ({"pred": torch.cat([volume(3)] * 2)}, "must be one channel of 0 and 1, got 2 channel"),
        (
            {"pred": volume(3)[:, :5]},
            r"grid of its label \(8, 9, 10\), got \(5, 9, 10\); invert the prediction",
        ),
        ({"pred": volume(3, OBLIQUE)}, r"got \(8, 9, 10\) with another affine; invert"),
        ({"original": volume(3, OBLIQUE)}, "'original' of case 'b' must lie on the grid of its label"),
    ],
)
def test_an_item_that_cannot_be_scored_is_named(handler, change, message):
    whole = {**ITEMS[1], "pred": ITEMS[1]["image"], **change}
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    with pytest.raises(UserError, match=message):
        engine.run([[{key: value for key, value in whole.items() if value is not None}]])
    assert not handler.folder.exists()


def test_a_label_whose_header_is_rounded_otherwise_is_scored(handler):
    moved = np.eye(4)
    moved[0, 3] = 0.05  # half of what `check` and a training let pass
    whole = item("a", 4, 4)
    whole["reference"] = MetaTensor(
        whole["reference"].as_tensor(), affine=moved @ whole["reference"].affine.numpy()
    )
    engine = evaluate(handler, [whole])
    assert engine.state.metrics["mean_dice"] == 1


def test_a_case_that_comes_twice_is_named(handler):
    with pytest.raises(UserError, match="expected each case once, got 'a' twice"):
        evaluate(handler, [ITEMS[0], ITEMS[0]])


def test_an_evaluation_without_cases_is_an_error(handler):
    engine = Engine(lambda engine, batch: [])
    handler.attach(engine)
    with pytest.raises(UserError, match="at least one case to evaluate, got none"):
        engine.run([0])
