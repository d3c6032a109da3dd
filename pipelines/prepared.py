"""Prepared X-rays, opened at once."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_TEXT = dict.fromkeys(("case", "view", "sex", "spacing_tag", "warnings", "reason"), str)


class PreparedSet:
    """The X-rays of one ``prepare``; pickles as its path, so that processes that load data share one file.

    Attributes:
        folder: where it is kept.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def __len__(self) -> int:
        """Return the number of images that could be read."""
        return len(self.table)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return image ``index`` of ``table``: (size, size) uint8, a view into the file, not to be written."""
        return self._pixels[self._rows[index]]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    @cached_property
    def table(self) -> pd.DataFrame:
        """One line an image, in the order of the items: the fields of ``XrayHeader``.

        Columns: ``case``; ``rows``, ``columns`` of the file's own image; ``view``, ``age`` (years), ``sex``;
        ``spacing_row``, ``spacing_column`` (mm), ``spacing_tag``; ``warnings``, joined by "; ". What is
        unknown is NaN.
        """
        return self._table.drop(columns="row")

    @cached_property
    def failures(self) -> pd.DataFrame:
        """One line a file that could not be read: ``case`` and ``reason``."""
        return _read_csv(self.folder / "failures.csv")

    @cached_property
    def index(self) -> dict[str, int]:
        """The index of each case."""
        return {case: index for index, case in enumerate(self.table["case"])}

    @cached_property
    def _table(self) -> pd.DataFrame:
        return _read_csv(self.folder / "table.csv")

    @cached_property
    def _rows(self) -> np.ndarray:
        return self._table["row"].to_numpy()

    @cached_property
    def _pixels(self) -> np.ndarray:
        return np.load(self.folder / "pixels.npy", mmap_mode="r")


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    # Only an empty field is unknown: a case may be called "NA".
    return pd.read_csv(path, dtype=_TEXT, keep_default_na=False, na_values=[""])
