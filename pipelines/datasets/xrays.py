"""What data sets in the RSNA challenge's layout share: tables beside ``stage_2_train_images/<name>.dcm``.

A *case* is a dictionary with its name under ``case`` and the absolute path of its DICOM file under ``image``; the
rest comes from the tables and is what JSON can hold (numbers, text, lists), with NaN for what a table leaves open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.datasets.datalist import dataset_root, missing_layout
from pipelines.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

IMAGES = "stage_2_train_images"


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
    raise missing_layout(root, "the RSNA challenge's layout", name, meant, mend)


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
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a CSV table ({reason}); get a fresh copy of it") from None
    if not isinstance(table.index, pd.RangeIndex):  # what pandas makes of values without a column
        raise UserError(
            f"{path}: its rows hold more values than its first line names columns; mend that line"
        )
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
        UserError: the name is blank, no file can have it, or it would lead out of the folder.
    """
    plain = re.fullmatch(r"[^/\\:]+", name) and name.isprintable() and len(os.fsencode(f"{name}.dcm")) <= 255
    if not plain or name in (".", ".."):
        raise UserError(f"expected the name of a file in {IMAGES} without its suffix, got {name!r}")
    return str(root / IMAGES / f"{name}.dcm")
