"""What data sets in the RSNA challenge's layout share: tables beside ``stage_2_train_images/<name>.dcm``.

A *case* is a dictionary with its name under ``case`` and the absolute path of its DICOM file under ``image``; the
rest comes from the tables and is what JSON can hold (numbers, text, lists), with NaN for what a table leaves open.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.datasets.msd import dataset_root
from pipelines.datasets.splits import SPLITS, split_hash
from pipelines.errors import UserError, nearest
from pipelines.files import write_json

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

IMAGES = "stage_2_train_images"
Case = dict[str, Any]
Split = dict[str, list[Case]]


def find_table(root: Path, name: str) -> Path | None:
    """Return the table ``name`` in ``root``, plain or compressed (.zip, .gz), or None."""
    paths = (root / f"{name}{suffix}" for suffix in ("", ".zip", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def open_layout(dataset_dir: str | Path, name: str, mend: str) -> tuple[Path, Path]:
    """Return the absolute folder and the path of the table that makes it a data set.

    Args:
        dataset_dir: the folder; ``~`` is expanded.
        name: the table's file name.
        mend: what to do where it is missing.

    Raises:
        UserError: there is no such folder or no such table; it names a folder nearby that has one.
    """
    root = dataset_root(dataset_dir)
    if table := find_table(root, name):
        return root, table
    nearby = [root.parent, *(path for path in sorted(root.glob("*")) if path.is_dir())]
    meant = [path for path in nearby if find_table(path, name)]
    came = f"has no {name}" if root.is_dir() else "is not a folder" if root.exists() else "does not exist"
    hint = f"; did you mean `--dataset_dir {meant[0]}`?" if meant else ""
    raise UserError(f"no data set in the RSNA challenge's layout at {root}: it {came}{hint}\n{mend}")


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return a CSV table, plain or compressed, every value as stripped text, blank where there is none.

    Raises:
        UserError: it cannot be read, lacks one of ``columns`` or has no rows.
    """
    import zipfile
    import zlib

    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}; check the file and its permissions"
        ) from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not a CSV table ({error}); get a fresh copy of it") from None
    table.columns = [str(column).strip() for column in table.columns]
    for column in columns:
        if column not in table:
            raise UserError(
                f"{path}: expected a column '{column}', got {', '.join(table)}{nearest(column, table)}"
            )
    if table.empty:
        raise UserError(f"{path}: expected a row for each case, got none; get a fresh copy of it")
    return table.apply(lambda values: values.str.strip())


def numbers(table: pd.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return ``columns`` as (rows, columns) float64, NaN for blank or odd text, and which rows hold odd text."""
    import numpy as np
    import pandas as pd

    text = table[list(columns)]
    values = text.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    values = np.where(np.isinf(values), np.nan, values)
    blank = text.apply(lambda column: column.str.lower().isin(["", "nan"])).to_numpy()
    return values, (np.isnan(values) & ~blank).any(axis=1)


def image_path(root: Path, name: str) -> str:
    """Return the path of the DICOM file of the case ``name``, which may hold dots.

    Raises:
        UserError: the name is blank, or would lead out of the folder.
    """
    if not name or not re.fullmatch(r"[^/\\:\0]+", name) or name in (".", ".."):
        raise UserError(f"expected the name of a file in {IMAGES} without its suffix, got {name!r}")
    return str(root / IMAGES / f"{name}.dcm")


def missing_files(cases: Iterable[Case]) -> list[Case]:
    """Return the cases whose image is not there."""
    return [case for case in cases if not Path(case["image"]).is_file()]


def require_whole(
    cases: Sequence[Case], problems: Sequence[str], dataset_dir: str | Path, bundle: str
) -> None:
    """Refuse a data set whose tables or files have faults.

    Raises:
        UserError: the first fault, how many there are and the command that shows all.
    """
    if not problems and (missing := missing_files(cases)):
        message = f"case '{missing[0]['case']}': its image is missing, expected {missing[0]['image']}"
        problems = [message] * len(missing)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        command = f"run `python -m pipelines check {bundle} --dataset_dir {dataset_dir}`"
        raise UserError(f"{problems[0]}{more};\n{command}")


def datalist_hash(split: Mapping[str, Sequence[Case]], dataset_dir: str | Path = "") -> str:
    """Return a SHA-256 over the sorted (side, case, everything the tables say of it, size of its image in bytes).

    The images' bytes are not read: tens of thousands of files take minutes. A file that is replaced by one of
    the same size is not noticed, any other change is. Where the folder lies does not matter.

    Args:
        split: sides to cases.
        dataset_dir: what relative paths in ``split`` start from; absolute ones ignore it.
    """
    root = dataset_root(dataset_dir)

    def content(case: Case) -> list[Any]:
        path = root / case["image"]
        return [_storable(_described(case)), path.stat().st_size if path.is_file() else None]

    return split_hash(split, content)


def dataset_hash(cases: Iterable[Case]) -> str:
    """Return a SHA-256 like :func:`datalist_hash`, whatever side the cases are on."""
    return datalist_hash({"": list(cases)})


def write_datalist(split: Split, dataset_dir: str | Path, path: str | Path) -> dict[str, Any]:
    """Write ``split`` and its hash to ``path`` as JSON, the files relative to ``dataset_dir``; return it."""
    root = dataset_root(dataset_dir)
    content: dict[str, Any] = {"hash": datalist_hash(split, root), "dataset_dir": str(root)}
    for side in SPLITS:
        content[side] = [_storable({**case, "image": _relative(case["image"], root)}) for case in split[side]]
    write_json(path, content)
    return content


def read_datalist(path: str | Path, dataset_dir: str | Path | None = None) -> Split:
    """Return the split that :func:`write_datalist` wrote.

    Args:
        path: a run's ``datalist.json``.
        dataset_dir: where the images are now; by default where they were.

    Raises:
        UserError: ``path`` is not such a file, or one of its images is not in the folder.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        root = dataset_root(dataset_dir or content["dataset_dir"])
        split = {side: [_restored(case, root) for case in content[side]] for side in SPLITS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        raise UserError(
            f"{path} is not a datalist: {error}; expected the datalist.json of a run folder"
        ) from None
    missing = missing_files(case for side in SPLITS for case in split[side])
    if missing:
        raise UserError(
            f"case '{missing[0]['case']}': its image is missing, expected {missing[0]['image']} ({len(missing)} "
            "missing in all);\nif the data set was moved, say where it is now with `--dataset_dir DIR`"
        )
    return split


def _described(case: Case) -> Case:
    return {key: value for key, value in case.items() if key != "image"}


def _relative(image: str, root: Path) -> str:
    return (root / image).relative_to(root).as_posix()


def _restored(case: Case, root: Path) -> Case:
    if case["image"] != f"{IMAGES}/{case['case']}.dcm":
        raise UserError(f"expected the image of case {case['case']!r} in {IMAGES}, got {case['image']!r}")
    return {**_with_nan(case), "image": image_path(root, case["case"])}


def _storable(value: Any) -> Any:
    """Return ``value`` with None for NaN, which JSON lacks."""
    return _mapped(value, lambda part: None if isinstance(part, float) and math.isnan(part) else part)


def _with_nan(value: Any) -> Any:
    return _mapped(value, lambda part: math.nan if part is None else part)


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(part, change) for key, part in value.items()}
    return [_mapped(part, change) for part in value] if isinstance(value, list) else change(value)
