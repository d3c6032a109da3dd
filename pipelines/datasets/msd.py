"""Folders in the layout of the Medical Segmentation Decathlon: their cases and the split by patient.

The layout is that of Task02_Heart (Antonelli et al., Nat. Commun. 13, 2022; http://medicaldecathlon.com):
``dataset.json`` lists ``{"image": "./imagesTr/la_003.nii.gz", "label": "./labelsTr/la_003.nii.gz"}`` under
``training``, a patient each. A *case* is ``{"case": "la_003", "image": path, "label": path}``, all text, with
absolute paths; a *split* is ``{"train": [case, ...], "val": [...], "test": [...]}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from pipelines.datasets.datalist import dataset_root, inside, missing_layout, require_whole
from pipelines.datasets.splits import split_cases
from pipelines.errors import UserError

LIST = "dataset.json"
SUFFIXES = (".nii.gz", ".nii")


def read_cases(dataset_dir: str | Path, bundle: str = "atrium") -> list[dict[str, str]]:
    """Return the labelled cases of an MSD folder, in the natural order of their names (la_2 before la_10).

    Args:
        dataset_dir: the folder that holds ``dataset.json``, ``imagesTr`` and ``labelsTr``; ``~`` is expanded.
        bundle: whose data set it is, for the commands that errors name.

    Raises:
        UserError: the folder, ``dataset.json`` or a listed file is missing or malformed.
    """
    cases, problems = scan_cases(dataset_dir, bundle)
    require_whole(cases, problems, dataset_dir, bundle)
    return cases


def scan_cases(dataset_dir: str | Path, bundle: str = "atrium") -> tuple[list[dict[str, str]], list[str]]:
    """Return the cases that ``dataset.json`` lists, files there or not, and what is wrong with the others.

    Raises:
        UserError: there is no such folder, no ``dataset.json``, or no list of cases in it.
    """
    root = dataset_root(dataset_dir)
    cases: list[dict[str, str]] = []
    problems: list[str] = []
    for index, entry in enumerate(_training_entries(root, bundle)):
        try:
            case = _parse_entry(root, entry)
            for key in ("case", "label"):
                if any(case[key] == other[key] for other in cases):
                    raise UserError(f"{key} '{case[key]}' is listed twice")
            cases.append(case)
        except UserError as error:
            problems.append(f"{root / LIST}: entry {index} of 'training': {error}")
    return sorted(cases, key=lambda case: natural_key(case["case"])), problems


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that compares runs of digits as numbers; ``a1`` and ``a01`` by their text."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))], name


def load_split(
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str] = 16,
    val_cases: int | str | Sequence[str] = 4,
    bundle: str = "atrium",
) -> dict[str, list[dict[str, str]]]:
    """Return the split of an MSD folder: :func:`read_cases`, then :func:`split_cases`."""
    return split_cases(read_cases(dataset_dir, bundle), train_cases, val_cases)


def _training_entries(root: Path, bundle: str) -> list[Any]:
    mend = (
        f"run `python -m pipelines fetch {bundle}`,\n"
        f"or `python -m pipelines phantom {bundle} DIR` and then add `--dataset_dir DIR`"
    )
    if not (root / LIST).is_file():
        meant = [path.parent for path in (*root.parent.glob(LIST), *sorted(root.glob(f"*/{LIST}")))]
        raise missing_layout(root, "the Decathlon's layout", LIST, meant, mend)
    content = _read_json(root / LIST)
    entries = content.get("training") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        came = "an empty one" if entries == [] else "none"
        raise UserError(f"{root / LIST}: expected a list of cases under 'training', got {came};\n{mend}")
    return entries


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}; check the path and its permissions"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); get a fresh copy of it") from None


def _parse_entry(root: Path, entry: Any) -> dict[str, str]:
    """Return one case from ``{"image": …, "label": …}``, its paths inside ``root``."""
    if not isinstance(entry, dict):
        raise UserError(f"expected {{'image': …, 'label': …}}, got {entry!r}")
    paths = {kind: _inside(root, kind, entry.get(kind)) for kind in ("image", "label")}
    name = paths["image"].name
    suffix = next(suffix for suffix in SUFFIXES if name.endswith(suffix))
    return {"case": name.removesuffix(suffix), "image": str(paths["image"]), "label": str(paths["label"])}


def _inside(root: Path, kind: str, text: Any) -> Path:
    """Join a listed path to ``root``; what is no NIfTI file, or would lead out of it, is refused."""
    name = PureWindowsPath(text).name if isinstance(text, str) else ""
    if not name.endswith(SUFFIXES) or name in SUFFIXES:
        raise UserError(f"expected a .nii.gz file as '{kind}', got {text!r}")
    return inside(root, kind, text)
