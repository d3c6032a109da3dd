"""Copy cases of a data set in the Medical Segmentation Decathlon's layout into nnU-Net's raw layout, with a split.

    python scripts/peers/nnunet_convert.py DIR --train la_001 … --val la_017 …

Writes ``$nnUNet_raw/Dataset501_Atrium``, and the one fold of the split to ``$nnUNet_preprocessed``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

NAME = "Dataset501_Atrium"


def main() -> None:
    """Copy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--train", nargs="+", required=True, help="cases")
    parser.add_argument("--val", nargs="+", required=True, help="cases")
    given = parser.parse_args()
    if unset := [name for name in ("nnUNet_raw", "nnUNet_preprocessed") if not os.environ.get(name)]:
        parser.error(f"expected {unset[0]} in the environment: a folder of nnU-Net's")
    names = [f"{kind}/{case}.nii.gz" for case in given.train + given.val for kind in ("imagesTr", "labelsTr")]
    if missing := [name for name in names if not (given.dataset_dir / name).is_file()]:
        parser.error(f"expected {given.dataset_dir / missing[0]}, which does not exist")
    raw, prepared = (Path(os.environ[name]) / NAME for name in ("nnUNet_raw", "nnUNet_preprocessed"))
    if raw.exists():
        parser.error(f"{raw} holds the cases of an earlier conversion: remove it first")
    for folder in (raw / "imagesTr", raw / "labelsTr", prepared):
        folder.mkdir(parents=True, exist_ok=True)
    for case in given.train + given.val:
        shutil.copy(given.dataset_dir / f"imagesTr/{case}.nii.gz", raw / f"imagesTr/{case}_0000.nii.gz")
        shutil.copy(given.dataset_dir / f"labelsTr/{case}.nii.gz", raw / f"labelsTr/{case}.nii.gz")
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "atrium": 1},
        "numTraining": len(given.train + given.val),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    splits = [{"train": given.train, "val": given.val}]
    (prepared / "splits_final.json").write_text(json.dumps(splits), encoding="utf-8")


if __name__ == "__main__":
    main()
