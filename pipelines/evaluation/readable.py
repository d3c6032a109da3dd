"""X-rays of an evaluation, of which some may turn out unreadable: those are told and left out, as in a training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import Dataset
from monai.transforms import Compose
from monai.utils import convert_to_tensor

from pipelines.console import user_error
from pipelines.datasets.datalist import Case

PROBLEM = "problem"
_NAMED = 10  # in the log; the result has all
_log = logging.getLogger(__name__)


class ReadableDataset(Dataset):
    """Samples whose ``problem`` is blank, or says why the file cannot be read.

    In place of an image that cannot be read stands a black one, so that every batch is as large as it was asked for;
    whoever scores leaves it out. Any other error than one of the file is raised.

    Args:
        data: cases.
        transform: what loads ``image`` and makes it (1, size, size).
        size: rows and columns.
    """

    def __init__(self, data: Sequence[Case], transform: Compose, size: int) -> None:
        super().__init__(data, transform)
        self.size = size

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            sample = super().__getitem__(index)
            # without MONAI's metadata, which nobody needs and the black image lacks
            return {**sample, "image": convert_to_tensor(sample["image"], track_meta=False), PROBLEM: ""}
        except Exception as error:
            mendable = user_error(error)  # MONAI wraps what a transform raises
            if mendable is None:
                raise
            black = torch.zeros(1, self.size, self.size)
            return {**self.data[index], "image": black, PROBLEM: " ".join(str(mendable).split())}


def tell_left_out(problems: Mapping[str, str], total: int) -> None:
    """Warn of the cases that are left out.

    Args:
        problems: case to reason.
        total: how many cases there are with them.
    """
    if problems:
        names = ", ".join(list(problems)[:_NAMED]) + (", …" if len(problems) > _NAMED else "")
        message = "%d of %d X-rays cannot be read and are left out: %s (%s: %s)"
        first = next(iter(problems.items()))
        _log.warning(message, len(problems), total, names, *first)
