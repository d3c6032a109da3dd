"""Cross-validate the cardiac bundle: ``python scripts/cross_validate_cardiac.py DATASET_DIR NAME [knob=value …]``.

Every third case of the table is a fold, so that a table ordered by source has each source in each fold. A fold is
validated once, after the last epoch, so nothing is chosen on the cases that are scored; a fold that is there is not
trained again. ``FOLDS=5`` in the environment makes five.
"""

from __future__ import annotations

import os
import sys

import pandas as pd
import yaml

from pipelines.datasets.heart import read_cases
from pipelines.evaluation.boxes import summarise_boxes
from pipelines.launch import run_bundle
from pipelines.runs import BEST, existing_run_dir


def main(dataset_dir: str, name: str, *settings: str) -> None:
    """Train and score each fold, then print the metrics of all cases together."""
    folds = int(os.environ.get("FOLDS", "3"))
    knobs = {key: yaml.safe_load(text) for key, text in (setting.split("=", 1) for setting in settings)}
    names = [case["case"] for case in read_cases(dataset_dir)]
    tables = []
    for fold in range(folds):
        run, val = f"{name}_fold{fold}", names[fold::folds]
        if not os.path.exists(f"runs/cardiac/{run}/{BEST}"):
            train = [case for case in names if case not in set(val)]
            chosen = {"train_cases": train, "val_cases": val, "val_interval": 1000, **knobs}
            run_bundle("bundles/cardiac/train.yaml", dataset_dir=dataset_dir, run_name=run, **chosen)
        folder = existing_run_dir(f"runs/cardiac/{run}")
        run_bundle("bundles/cardiac/evaluate.yaml", ckpt_path=str(folder))
        cases = pd.read_csv(folder / "cases.csv", dtype={"case": str}, keep_default_na=False, na_values=[""])
        tables.append(cases.assign(view=cases["view"].fillna("")))
    for metric, found in summarise_boxes(pd.concat(tables)).items():
        print(f"{metric:32s} {found['value']:.4f} {found['ci95']} n={found['cases']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
