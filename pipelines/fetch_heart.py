"""The heart's boxes and their X-rays: two sources, neither of which can be downloaded without the user."""

from __future__ import annotations

from pathlib import Path

from pipelines.datasets.heart import LABELS, read_cases
from pipelines.datasets.xrays import IMAGES, find_table
from pipelines.errors import UserError
from pipelines.phantoms.xray import MARKER

SOURCE = "https://github.com/fshnkarimi/Cardiac-Detection"


def fetch_cardiac(target: Path = Path("data/rsna-heart")) -> Path:
    """Return the folder of the heart's boxes where it is whole; else say how to get its files.

    Args:
        target: the folder.

    Raises:
        UserError: it is not there, not whole, or a phantom.
    """
    target = Path(target).expanduser()
    if (target / MARKER).exists():
        raise UserError(f"{target} holds a phantom, not the real data set; choose another --dataset_dir")
    if not find_table(target, LABELS):
        raise UserError(
            f"{target} has no {LABELS}. Its files cannot be downloaded without you:\n"
            f"1. {IMAGES}: `python -m pipelines fetch pneumonia --dataset_dir {target}` (a Kaggle account);\n"
            f"2. {LABELS}, train_subjects.npy and val_subjects.npy: from {SOURCE} into {target}."
        )
    print(f"{target} is already there: {len(read_cases(target))} X-rays with a heart's box.")
    return target
