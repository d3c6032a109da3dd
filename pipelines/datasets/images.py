"""Prepared X-rays with what the tables say of them, as samples for a network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose
from torch.utils.data import Dataset

from pipelines.datasets.datalist import Case
from pipelines.datasets.draws import transformed
from pipelines.errors import UserError
from pipelines.prepare import prepare
from pipelines.prepared import PreparedSet
from pipelines.readers.inputs import ImageInput

logger = logging.getLogger(__name__)


def prepare_cases(
    cases: Sequence[Case],
    cache_dir: str | Path,
    size: int = 224,
    dataset_dir: str | Path | None = None,
    workers: int | None = None,
) -> PreparedSet:
    """Return the X-rays of ``cases``, read at most once, see :func:`pipelines.prepare.prepare`.

    The cases' order does not matter: every split of a data set shares one cache.
    """
    items = [ImageInput(case["case"], Path(case["image"])) for case in cases]
    return prepare(sorted(items, key=lambda item: item.case), cache_dir, size, workers, dataset_dir)


def prepare_split(
    split: Mapping[str, Sequence[Case]], cache_dir: str | Path, size: int, dataset_dir: str | Path
) -> PreparedSet:
    """Return the X-rays of every side of a split; those that cannot be read are told and left out.

    Raises:
        UserError: none of a side that trains or validates can be read; or see :func:`pipelines.prepare.prepare`.
    """
    everything = [case for side in split.values() for case in side]
    prepared = prepare_cases(everything, cache_dir, size, dataset_dir)
    if len(prepared.failures):
        first = prepared.failures.iloc[0]
        logger.warning(
            "%d X-rays cannot be read and are left out, the first is %s (%s); `python -m pipelines check` lists all.",
            *(len(prepared.failures), first["case"], first["reason"]),
        )
    for side in ("train", "val"):
        if not any(case["case"] in prepared.index for case in split[side]):
            raise UserError(f"None of the {len(split[side])} X-rays of the part '{side}' can be read.")
    return prepared


class ImageDataset(Dataset):
    """Prepared X-rays of some cases.

    Args:
        cases: those that could not be prepared are left out.
        prepared: the X-rays.
        transform: of ``{"case": name, "image": (1, size, size) uint8, field: (N,) float32, …}``.
        fields: what of a case goes along, a number or a list of N numbers each.
        seed: see :func:`pipelines.datasets.draws.transformed`; the training sets ``epoch``.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        prepared: PreparedSet,
        transform: Compose | None = None,
        fields: Sequence[str] = ("label",),
        seed: int = 0,
    ) -> None:
        self.cases = [case for case in cases if case["case"] in prepared.index]
        self.prepared, self.transform, self.fields = prepared, transform, tuple(fields)
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        case = self.cases[index]
        pixels = self.prepared[self.prepared.index[case["case"]]]
        sample = {
            "case": case["case"],
            "image": torch.from_numpy(pixels.copy())[None],
            **{name: torch.atleast_1d(torch.tensor(case[name], dtype=torch.float32)) for name in self.fields},
        }
        return transformed(self.transform, sample, self.seed, self.epoch, index)
