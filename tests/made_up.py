"""Run folders as trainings and evaluations leave them, written by hand, for tests that need many and quickly."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import yaml

from pipelines.evaluation.results import estimate, write_results

ENVIRONMENT = {
    "version.torch": "2.13.0",
    "git.commit": "a" * 40,
    "git.dirty": "false",
    "host.kind": "Linux, 2 CPUs",
}
TRAIN = ("la_001", "la_002", "la_003")


def make_run(folder, dice=(), train=TRAIN, val=None, groups=None, cases=None, **settings):
    """A run of the atrium bundle that scored cases ``la_101``, ``la_102``, … with the given Dice.

    Args:
        folder: where to.
        dice: of each validation case; none leaves the run unevaluated.
        train: names of the cases that trained.
        val: names of the cases that were scored.
        groups: case to its patient.
        cases: further columns of ``cases.csv``.
        settings: of the config.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    val = list(val or (f"la_{101 + i}" for i in range(len(dice))))
    config = {"bundle_root": "bundles/atrium", "max_epochs": 3, "lr": 0.001, "run_name": folder.name}
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, **settings}))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "mlflow.json").write_text(json.dumps({"run_id": f"{folder.name:0>32}", "status": "FINISHED"}))
    (folder / "model.pt").write_bytes(folder.name.encode())
    write_datalist(folder, train, val, groups)
    if len(dice):
        write_scores(folder, val, dice, cases)
    return folder


def write_datalist(folder, train, val, groups=None):
    def listed(names):
        return [
            {
                "case": name,
                "image": f"{name}.nii",
                **({"group": groups[name]} if groups and name in groups else {}),
            }
            for name in names
        ]

    content = {"hash": f"of {len(train)} and {len(val)}", "dataset_dir": "/data/someone/Task02_Heart"}
    content |= {"train": listed(train), "val": listed(val), "test": []}
    (folder / "datalist.json").write_text(json.dumps(content))


def write_scores(folder, names, dice, cases=None):
    table = pd.DataFrame({"case": names, "dice": dice, **(cases or {})})
    metrics = {"mean_dice": estimate(table["dice"])}
    dataset = {"dir": "Task02_Heart", "hash": "b" * 64}
    checkpoint = folder / "model.pt"
    if not checkpoint.is_file():
        checkpoint = next(folder.glob("fold_*/model.pt"))
    write_results(folder, "atrium", checkpoint, dataset, table, metrics)


def make_crossval(folder, dice_of_folds):
    """A cross-validation of the atrium bundle: a list of Dice for each fold; cases ``la_101``, ``la_102``, …"""
    folder = Path(folder)
    count = sum(map(len, dice_of_folds))
    names = [f"la_{101 + i}" for i in range(count)]
    folds_of, dice, first = {}, [], 0
    for fold, scores in enumerate(dice_of_folds, start=1):
        own = names[first : first + len(scores)]
        rest = [name for name in names if name not in own]
        make_run(folder / f"fold_{fold}", scores, train=rest, val=own)
        folds_of |= dict.fromkeys(own, fold)
        dice += scores
        first += len(scores)
    crossval = {
        "bundle": "atrium",
        "name": folder.name,
        "folds": len(dice_of_folds),
        "seed": 0,
        "hash": "c" * 64,
    }
    (folder / "crossval.json").write_text(json.dumps({**crossval, "overrides": {}, "folds_of": folds_of}))
    (folder / "mlflow.json").write_text(json.dumps({"run_id": "d" * 32, "status": "FINISHED"}))
    write_scores(folder, names, dice)
    cases = pd.read_csv(folder / "cases.csv")
    cases.insert(1, "fold", cases["case"].map(folds_of))
    cases.to_csv(folder / "cases.csv", index=False)
    return folder
