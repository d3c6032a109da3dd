"""Folders with a heart's box on each chest X-ray, in the layout of the RSNA cardiac detection labels.

``rsna_heart_detection.csv`` (``label,x0,y0,w,h,name,img_shape_x,img_shape_y``) has a row a case: the box's left upper
corner, width and height in pixels of an image of ``img_shape_x`` columns and ``img_shape_y`` rows, which is not the
file's own size. The optional ``thorax.csv`` (``name,thorax_x0,thorax_x1,cardiothoracic_ratio``) gives the thorax's
inner range along x in the same pixels. A *case* is ``{"case": name, "image": path, "box": [x0, y0, x1, y1]}``, the
corners as fractions of the image's width and height; where ``thorax.csv`` is there also ``"thorax": [x0, x1]``,
likewise, and ``"cardiothoracic_ratio"``, NaN for what it leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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

LABELS = "rsna_heart_detection.csv"
THORAX = "thorax.csv"
RECIPE = (400, 96)  # of 496 images
COLUMNS = ("x0", "y0", "w", "h", "img_shape_x", "img_shape_y")
THORAX_COLUMNS = ("thorax_x0", "thorax_x1", "cardiothoracic_ratio")


class Scan(NamedTuple):
    """What the tables of a folder say.

    Attributes:
        cases: those that the table lists, files there or not.
        problems: what is wrong with rows.
        sizes: columns and rows of the image that each case's pixels refer to.
        strangers: names in ``thorax.csv`` that the table does not list.
    """

    cases: list[Case]
    problems: list[str]
    sizes: dict[str, tuple[float, float]]
    strangers: list[str]


def read_cases(dataset_dir: str | Path, bundle: str = "cardiac") -> list[Case]:
    """Return the cases of a folder, in the order of its table.

    Args:
        dataset_dir: the folder that holds the table (a .zip of it will do) and ``stage_2_train_images``.
        bundle: whose data set it is, for the commands that errors name.

    Raises:
        UserError: the folder, a table or an image is missing or malformed, or a box is empty.
    """
    cases, problems = scan_cases(dataset_dir, bundle)
    require_whole(cases, problems, dataset_dir, bundle)
    return cases


def load_split(
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str] | None = None,
    val_cases: int | str | Sequence[str] | None = None,
    bundle: str = "cardiac",
) -> Split:
    """Return the split of a folder: :func:`read_cases`, then :func:`split_images`."""
    return split_images(read_cases(dataset_dir, bundle), dataset_dir, train_cases, val_cases)


def split_images(
    cases: Sequence[Case],
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str] | None = None,
    val_cases: int | str | Sequence[str] | None = None,
) -> Split:
    """Return ``cases`` split, see :func:`pipelines.datasets.splits.split_cases`.

    Where both are None, ``train_subjects.npy`` and ``val_subjects.npy`` of the folder decide (also under the names
    ``…_det.npy``); without them, or where one is given, None stands for the recipe's number: the first 400 of 496
    train and the others validate, the same share of any other number.
    """
    if train_cases is None and val_cases is None:
        named = [read_subjects(Path(dataset_dir).expanduser(), side) for side in ("train", "val")]
        if all(names is not None for names in named):
            try:
                return split_cases(cases, *named)
            except UserError as error:
                raise UserError(f"train_subjects and val_subjects (.npy) in {dataset_dir}: {error}") from None
        if any(names is not None for names in named):
            raise UserError(
                f"{dataset_dir} has one of train_subjects.npy and val_subjects.npy; add the other, or remove it"
            )
    train, val = in_proportion(*RECIPE, len(cases))
    return split_cases(
        cases, train if train_cases is None else train_cases, val if val_cases is None else val_cases
    )


def read_subjects(root: Path, side: str) -> list[str] | None:
    """Return the names in ``<side>_subjects_det.npy`` or ``<side>_subjects.npy``, or None where neither is there.

    The first is the heart's own; in a folder shared with ``pneumonia`` the second may be that one's.

    Raises:
        UserError: the file holds anything but names; Python objects in it are not loaded.
    """
    import numpy as np

    names = (f"{side}_subjects_det.npy", f"{side}_subjects.npy")
    path = next((root / name for name in names if (root / name).is_file()), None)
    if path is None:
        return None
    try:
        subjects = np.load(path, allow_pickle=False)
        if subjects.dtype.kind != "U" or subjects.ndim != 1 or not subjects.size:
            raise ValueError(f"it holds {subjects.dtype} of shape {subjects.shape}")
    except (OSError, ValueError, EOFError) as error:
        # NumPy advises to load objects, which runs what they hold
        told = "it holds Python objects, or is none of NumPy's" if "allow_pickle" in str(error) else error
        raise UserError(
            f"{path}: expected an array of names, got another file ({told});\n"
            "save it with `numpy.save(path, numpy.array(names, dtype=str))`"
        ) from None
    return [str(name) for name in subjects]


def scan_cases(dataset_dir: str | Path, bundle: str = "cardiac") -> tuple[list[Case], list[str]]:
    """Return the cases and problems of :func:`scan`."""
    return scan(dataset_dir, bundle)[:2]


def scan(dataset_dir: str | Path, bundle: str = "cardiac") -> Scan:
    """Return what the tables say, whatever is wrong with single rows.

    Raises:
        UserError: there is no such folder, no table in it, or a table that cannot be read.
    """
    mend = (
        f"put {LABELS} into the folder of the pneumonia challenge's files,\n"
        f"or run `python -m pipelines phantom {bundle} DIR` and then add `--dataset_dir DIR`"
    )
    root, path = open_layout(dataset_dir, LABELS, mend)
    table = read_table(path, (*COLUMNS, "name"))
    values, _ = numbers(table, COLUMNS)
    cases: dict[str, Case] = {}
    sizes: dict[str, tuple[float, float]] = {}
    problems: list[str] = []
    for index, (name, row) in enumerate(zip(table["name"], values.tolist(), strict=True)):
        try:
            if name in cases:
                raise UserError("it is listed twice; keep one of the rows")
            cases[name] = {"case": name, "image": image_path(root, name), "box": _box(*row)}
            sizes[name] = (row[4], row[5])
        except UserError as error:
            problems.append(f"{path.name}: row {index + 2}, {name!r}: {error}")  # row 1 names the columns
    wrong, named = _add_thorax(cases, sizes, root)
    known = set(table["name"])
    return Scan(list(cases.values()), problems + wrong, sizes, [name for name in named if name not in known])


def _box(x0: float, y0: float, width: float, height: float, columns: float, rows: float) -> list[float]:
    """Return the corners as fractions of the image's size."""
    if any(math.isnan(value) for value in (x0, y0, width, height, columns, rows)):
        raise UserError(f"expected a number in each of {', '.join(COLUMNS)}")
    if width <= 0 or height <= 0:
        raise UserError(f"w and h must be above 0, got {width:g} and {height:g}: the box is empty")
    if columns <= 0 or rows <= 0:
        raise UserError(f"img_shape_x and img_shape_y must be above 0, got {columns:g} and {rows:g}")
    return [x0 / columns, y0 / rows, (x0 + width) / columns, (y0 + height) / rows]


def _add_thorax(
    cases: dict[str, Case], sizes: dict[str, tuple[float, float]], root: Path
) -> tuple[list[str], list[str]]:
    """Add what ``thorax.csv`` says, NaN for who is not in it; return what is wrong with its rows, and its names."""
    path = find_table(root, THORAX)
    if path is None:
        return [], []
    problems: list[str] = []
    for case in cases.values():
        case |= {"thorax": [math.nan, math.nan], "cardiothoracic_ratio": math.nan}
    table = read_table(path, ("name", *THORAX_COLUMNS))
    values, odd = numbers(table, THORAX_COLUMNS)
    twice = table["name"].duplicated()
    for index, (name, (x0, x1, ratio)) in enumerate(zip(table["name"], values.tolist(), strict=True)):
        if odd[index] or x1 <= x0 or math.isnan(x0) != math.isnan(x1) or ratio <= 0:
            message = "expected thorax_x0 below thorax_x1 and a ratio above 0, or blanks"
            problems.append(f"{path.name}: row {index + 2}, {name!r}: {message}")
        elif twice[index]:
            problems.append(f"{path.name}: row {index + 2}, {name!r}: it is listed twice; keep one row")
        elif name in cases:
            cases[name] |= {
                "thorax": [x0 / sizes[name][0], x1 / sizes[name][0]],
                "cardiothoracic_ratio": ratio,
            }
    return problems, table["name"].tolist()
