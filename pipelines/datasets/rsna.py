"""Folders in the layout of the RSNA Pneumonia Detection Challenge: their cases, and the split by patient.

``stage_2_train_labels.csv`` (``patientId,x,y,width,height,Target``) has a row a *box*; a negative has one row without a
box (Shih et al., Radiol. Artif. Intell. 1, 2019). What the challenge calls a patient is an image; a mapping table,
where there is one, says which images are of the same person. A *case* is ``{"case": patientId, "image": path,
"label": 0 or 1, "boxes": [[x0, y0, x1, y1], …], "group": patient}``: boxes in pixels of the file as stored, x along
columns and y along rows, none for a negative and for a positive that was not marked; ``np.reshape(boxes, (-1, 4))``
gives (N, 4). Where
``stage_2_detailed_class_info.csv`` is there, ``class`` holds its text, blank for a case that it lacks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from pipelines.datasets.datalist import Case, Split, require_whole
from pipelines.datasets.splits import in_proportion, split_cases
from pipelines.datasets.xrays import (
    find_table,
    image_path,
    numbers,
    open_layout,
    read_table,
)
from pipelines.errors import UserError

LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"
MAPPINGS = (
    "nih_patients.csv",
    "pneumonia-challenge-dataset-mappings_2018.json",
)  # the latter the challenge's own
RECIPE = (24_000, 2_684)  # of 26,684 patients
BOX = ("x", "y", "width", "height")


def read_cases(
    dataset_dir: str | Path, patients: str | Path | None = None, bundle: str = "pneumonia"
) -> list[Case]:
    """Return the cases of a folder, in the order in which its table first names them.

    Args:
        dataset_dir: the folder that holds the table (a .zip of it will do) and ``stage_2_train_images``.
        patients: a mapping table, relative to the folder; by default one of ``MAPPINGS`` where it is there.
            A CSV has ``patientId`` and ``nih_patient`` (or one other column); JSON is the challenge's.
        bundle: whose data set it is, for the commands that errors name.

    Raises:
        UserError: the folder, a table or an image is missing or malformed, or a patient's ``Target`` varies.
    """
    cases, problems = scan_cases(dataset_dir, patients, bundle)
    require_whole(cases, problems, dataset_dir, bundle)
    return cases


def load_split(
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str] | None = None,
    val_cases: int | str | Sequence[str] | None = None,
    patients: str | Path | None = None,
    bundle: str = "pneumonia",
) -> Split:
    """Return the split of a folder: :func:`read_cases`, then :func:`split_patients`."""
    return split_patients(read_cases(dataset_dir, patients, bundle), train_cases, val_cases)


def split_patients(
    cases: Sequence[Case],
    train_cases: int | str | Sequence[str] | None = None,
    val_cases: int | str | Sequence[str] | None = None,
) -> Split:
    """Return ``cases`` split by group, see :func:`pipelines.datasets.splits.split_cases`.

    None stands for the recipe's number: the first 24,000 of 26,684 train, the same share of any other number.
    """
    train, val = in_proportion(*RECIPE, len(cases))
    return split_cases(
        cases, train if train_cases is None else train_cases, val if val_cases is None else val_cases
    )


def scan_cases(
    dataset_dir: str | Path, patients: str | Path | None = None, bundle: str = "pneumonia"
) -> tuple[list[Case], list[str]]:
    """Return the cases that the table lists, files there or not, and what is wrong with its rows.

    Raises:
        UserError: there is no such folder, no table in it, or a table that cannot be read.
    """
    mend = (
        f"run `python -m pipelines fetch {bundle}`,\n"
        f"or `python -m pipelines phantom {bundle} DIR` and then add `--dataset_dir DIR`"
    )
    root, path = open_layout(dataset_dir, LABELS, mend)
    table = read_table(path, ("patientId", *BOX, "Target"))
    boxes, odd = numbers(table, BOX)
    cases: dict[str, Case] = {}
    problems: list[str] = []
    for index, (name, target, box) in enumerate(
        zip(table["patientId"], table["Target"], boxes.tolist(), strict=True)
    ):
        try:
            box = _check_row(target, box, bool(odd[index]))
            _add_row(cases, root, name, int(target), box)
        except UserError as error:
            problems.append(f"{path.name}: row {index + 2}, '{name}': {error}")  # row 1 names the columns
    _add_groups(cases, root, patients)
    _add_classes(cases, root)
    return list(cases.values()), problems


def _check_row(target: str, box: list[float], odd: bool) -> list[float] | None:
    """Return the box as xyxy in pixels, or None where the row has none."""
    given = [value for value in box if value == value]
    if target not in ("0", "1"):
        raise UserError(f"Target must be 0 or 1, got '{target}'")
    if odd or len(given) not in (0, 4):
        raise UserError("expected four numbers x, y, width, height or none at all")
    if given and target == "0":
        raise UserError("a box is marked, yet Target is 0")
    x, y, width, height = box
    return [x, y, x + width, y + height] if given else None


def _add_row(cases: dict[str, Case], root: Path, name: str, label: int, box: list[float] | None) -> None:
    if name not in cases:
        cases[name] = {
            "case": name,
            "image": image_path(root, name),
            "label": label,
            "boxes": [],
            "group": name,
        }
    if cases[name]["label"] != label:
        raise UserError(f"Target is {label} here and {cases[name]['label']} in a row above; keep one of them")
    cases[name]["boxes"] += [box] if box else []


def _add_groups(cases: dict[str, Case], root: Path, patients: str | Path | None) -> None:
    """Set ``group`` from the mapping table; who is not in it stays a patient of their own."""
    for name, group in read_mapping(root, patients).items():
        if name in cases:
            cases[name]["group"] = group


def read_mapping(root: Path, patients: str | Path | None = None) -> dict[str, str]:
    """Return ``{patientId: patient}``, empty where no mapping table is asked for and none is in ``root``.

    Raises:
        UserError: the table is missing or malformed, or maps one image to two patients.
    """
    if patients is None:
        path = next((found for name in MAPPINGS if (found := find_table(root, name))), None)
    elif not (path := root / Path(patients).expanduser()).is_file():
        raise UserError(f"there is no mapping table {path}; give its path, or leave `patients` out")
    if path is None:
        return {}
    pairs = _read_mapping_json(path) if path.suffix == ".json" else _read_mapping_csv(path)
    twice = [name for name, count in Counter(name for name, _ in set(pairs)).items() if count > 1]
    if twice:
        raise UserError(f"{path}: '{twice[0]}' is mapped to more than one patient; keep one row for it")
    return {name: group for name, group in pairs if group}


def _read_mapping_csv(path: Path) -> list[tuple[str, str]]:
    table = read_table(path, ("patientId",))
    others = [column for column in table if column != "patientId"]
    column = "nih_patient" if "nih_patient" in others else others[0] if len(others) == 1 else None
    if column is None:
        raise UserError(f"{path}: expected the columns patientId and nih_patient, got {', '.join(table)}")
    return list(zip(table["patientId"], table[column], strict=True))


def _read_mapping_json(path: Path) -> list[tuple[str, str]]:
    """Return the pairs of the challenge's mapping: ``img_id`` "00012345_001.png" is of NIH patient 00012345."""
    try:
        entries: list[Any] = json.loads(path.read_text(encoding="utf-8"))
        return [(entry["subset_img_id"], PurePath(entry["img_id"]).name.split("_")[0]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not the challenge's mapping ({error!r}): expected a list of "
            "{'subset_img_id': …, 'img_id': …}; get a fresh copy of it"
        ) from None


def _add_classes(cases: dict[str, Case], root: Path) -> None:
    if path := find_table(root, CLASSES):
        table = read_table(path, ("patientId", "class"))
        of = dict(zip(table["patientId"], table["class"], strict=True))
        for name, case in cases.items():
            case["class"] = of.get(name, "")
