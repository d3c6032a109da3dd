"""Cross-validate the pneumonia bundle by patient: ``python scripts/cross_validate_pneumonia.py DATASET_DIR --name cv``.

Each fold's patients are scored by a network that trained on the others, less a fifth of them, which chose its weights,
temperature and operating points. The folds' cases are then scored together, with intervals over patients. A fold whose
training is finished is not trained again, and one that was stopped goes on; whatever else is given goes to train.yaml:
``--max_epochs 10``. Needs scikit-learn (`pip install -e .[test]`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.datalist import Case
from pipelines.datasets.rsna import read_cases
from pipelines.runs import LAST, is_finished

OUTPUT = Path("runs/pneumonia")


def splits(cases: Sequence[Case], folds: int, seed: int) -> Iterator[dict[str, list[str]]]:
    """Yield the names of each fold's train, val and test cases; a patient is on one side, labels are as in all."""
    from sklearn.model_selection import StratifiedGroupKFold

    names, labels, groups = (np.array([case[key] for case in cases]) for key in ("case", "label", "group"))

    def divided(chosen: np.ndarray, parts: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        folder = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        for rest, part in folder.split(chosen, labels[chosen], groups[chosen]):
            yield chosen[rest], chosen[part]

    for rest, test in divided(np.arange(len(cases)), folds):
        train, val = next(divided(rest, 5))
        yield {side: names[of].tolist() for side, of in (("train", train), ("val", val), ("test", test))}


def run(config: str, **options: Any) -> None:
    """Run one of the bundle's configs as a command of its own."""
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        f"bundles/pneumonia/{config}.yaml",
    ]
    for name, value in options.items():
        command += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    subprocess.run(command, check=True)  # noqa: S603 - the project's own command


def train_and_score(
    run_dir: Path, split: dict[str, list[str]], dataset_dir: str, more: dict[str, str]
) -> None:
    """Train one fold, as far as it is not trained yet, and score its test cases."""
    if (run_dir / LAST).is_file() and not is_finished(run_dir):
        run("train", resume=str(run_dir))
    elif not is_finished(run_dir):
        sides = {"train_cases": split["train"], "val_cases": split["val"]}
        run(
            "train",
            dataset_dir=dataset_dir,
            run_name=run_dir.name,
            output_dir=str(run_dir.parent),
            **sides,
            **more,
        )
    run("evaluate", ckpt_path=str(run_dir), dataset_dir=dataset_dir, cases="test")


def pooled(run_dirs: Sequence[Path], cases: Sequence[Case]) -> dict[str, Any]:
    """Return the metrics of all folds' test cases together."""
    import pandas as pd

    from pipelines.evaluation.classification_report import summarise

    table = pd.concat([pd.read_csv(path / "test" / "cases.csv", dtype={"case": str}) for path in run_dirs])
    group_of = {case["case"]: case["group"] for case in cases}
    return summarise(table.reset_index(drop=True), [group_of[name] for name in table["case"]])


def main() -> None:
    """Read the command line and do all of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset_dir")
    parser.add_argument("--name", required=True, help="runs are called NAME-0, NAME-1, …")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given, rest = parser.parse_known_args()
    more = {name.lstrip("-"): value for name, value in zip(rest[::2], rest[1::2], strict=True)}
    cases = read_cases(given.dataset_dir)
    run_dirs = [OUTPUT / f"{given.name}-{fold}" for fold in range(given.folds)]
    for run_dir, split in zip(run_dirs, splits(cases, given.folds, given.seed), strict=True):
        train_and_score(run_dir, split, given.dataset_dir, more)
    for name, metric in pooled(run_dirs, cases).items():
        interval = " to ".join(f"{end:.3f}" for end in metric["ci95"] or ())
        print(f"{name:40} {metric['value']:.3f}   {interval:16} {metric['cases']} cases")


if __name__ == "__main__":
    main()
