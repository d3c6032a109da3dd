from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from pipelines.description import describe


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "someone" / "short"
    folder.mkdir(parents=True)
    config = {"bundle_root": "bundles/atrium", "max_epochs": 30, "lr": 0.001, "batch_size": 16, "seed": 0}
    config["validate"] = {"key_metric": {"mean_dice": {"_target_": "MeanDice"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    datalist = {"hash": "0123456789", "dataset_dir": "/data/someone/Task02_Heart"}
    datalist |= {"train": [{}] * 16, "val": [{}] * 4, "test": []}
    (folder / "datalist.json").write_text(json.dumps(datalist))
    torch.save({"best": [0.91234, 25]}, folder / "last.pt")
    (folder / "model.pt").touch()
    return folder


def evaluated(folder: Path, metrics: dict) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({"dataset": {"cases": 4}, "metrics": metrics}))


def test_it_says_what_was_trained_on_what_and_how_well_and_how_to_use_it(run_dir):
    text = describe(run_dir)
    assert text.splitlines()[:4] == [
        "**atrium: Left atrium in cardiac MRI**: best mean_dice 0.9123 in epoch 25 of 30",
        "",
        "- Data: Task02_Heart, 16 train, 4 val, 0 test (split 01234567)",
        "- Recipe: 30 epochs, lr 0.001, batch_size 16, seed 0",
    ]
    assert "predict atrium FILES --out predictions --ckpt_path runs/atrium/short" in text
    assert "someone" not in text


def test_evaluations_are_tables_with_intervals_and_units(run_dir):
    evaluated(
        run_dir,
        {
            "mean_dice": {"value": 0.9, "ci95": [0.88, 0.92], "unit": None},
            "mean_hd95": {"value": 3.14159, "ci95": None, "unit": "mm"},
            "min_dice": {"value": None, "ci95": None, "unit": None},
        },
    )
    evaluated(run_dir / "test", {f"score_{n}": {"value": 1.0} for n in range(15)})
    text = describe(run_dir)
    assert "### Evaluation of val: 4 cases" in text
    assert "| mean_dice |&emsp;0.900 |&emsp;0.880 to 0.920 |" in text
    assert "| mean_hd95 |&emsp;3.14 mm |&emsp;- |" in text
    assert "| min_dice |&emsp;- |&emsp;- |" in text
    assert "### Evaluation of test: 4 cases" in text
    assert "3 more among the metrics." in text


@pytest.mark.parametrize("name", ["config.yaml", "datalist.json", "last.pt", "model.pt"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\x00 no such content")])
def test_a_damaged_or_missing_file_costs_its_lines_alone(run_dir, name, damage):
    damage(run_dir / name)
    assert len(describe(run_dir)) > 100


def test_a_cross_validation_tells_its_folds_and_what_they_held_out(run_dir):
    (run_dir / "datalist.json").unlink()
    crossval = {"folds": 5, "hash": "0123456789", "dataset": {"dir": "Task02_Heart", "cases": 4}}
    (run_dir / "crossval.json").write_text(json.dumps(crossval))
    evaluated(run_dir / "fold_1", {"mean_dice": {"value": 0.5}})
    assert "###" not in describe(run_dir)  # nothing is pooled yet
    evaluated(run_dir, {"mean_dice": {"value": 0.9, "ci95": [0.88, 0.92], "unit": None}})
    text = describe(run_dir)
    assert text.splitlines()[:4] == [
        "**atrium: Left atrium in cardiac MRI**: cross-validation in 5 folds, mean_dice 0.900",
        "",
        "- Data: Task02_Heart, 4 cases (split 01234567)",
        "- Recipe: 30 epochs, lr 0.001, batch_size 16, seed 0",
    ]
    assert "### Held out by their fold: 4 cases" in text
    assert "4 cases are few" in text
    assert "fold_1" not in text
    assert "The networks of all folds answer together" in text


def test_a_run_without_weights_says_nothing_of_their_use(run_dir):
    shutil.rmtree(run_dir)
    run_dir.mkdir()
    assert "Use the weights" not in describe(run_dir)
