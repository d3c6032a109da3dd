"""Every 2-D slice of every volume in a list, read from volumes that were prepared once."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from torch.utils.data import Dataset, Sampler

from pipelines.console import in_one_line
from pipelines.datasets.draws import transformed
from pipelines.errors import UserError
from pipelines.progress import track
from transforms.neighbours import slice_with_neighbours

logger = logging.getLogger(__name__)


class VolumeCache(Sequence):
    """Volumes after the deterministic transforms, in compact types, in memory up to a limit and beyond it on disk.

    Args:
        data: one dictionary a case, e.g. ``{"case": "la_001", "image": path, "label": path}``.
        transform: the deterministic transforms; give ``image`` (C, X, Y, Z) in [0, 1] and ``label`` (1, X, Y, Z).
        memory_limit_gb: gigabytes of voxels to hold in memory; volumes beyond it are kept in temporary files
            (see ``TMPDIR``) that the system pages in and may drop again, so a data set of any size can be trained on.

    Images are held as float16 and labels as uint8.

    Raises:
        UserError: when a case cannot be prepared, or the disk is full.
    """

    def __init__(self, data: Sequence[dict], transform: Callable, memory_limit_gb: float = 8.0) -> None:
        self._limit, self._held = memory_limit_gb * 1e9, 0.0
        self._items = [self._prepare(item, transform) for item in track(data, "Preparing volumes")]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._items[index]

    def _prepare(self, item: dict, transform: Callable) -> dict[str, Any]:
        try:
            sample = transform(item)
        except (
            Exception
        ) as error:  # a transform may raise anything, and MONAI's wrapper does not name the case
            raise UserError(
                f"Case '{item['case']}' cannot be prepared: {in_one_line(error)}\n"
                "Check the data set with `python -m pipelines check`."
            ) from error
        return {
            "case": item["case"],
            "image": self._hold(sample["image"], torch.float16),
            "label": self._hold(sample["label"], torch.uint8),
        }

    def _hold(self, array: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return ``array`` as a compact ``dtype`` block without metadata, in memory or on disk."""
        block = torch.empty(array.shape, dtype=dtype)
        block.copy_(array.as_tensor() if isinstance(array, MetaTensor) else array)
        if self._held <= self._limit < self._held + block.nbytes:
            logger.info("The volumes pass %.1f GB: the rest is kept on disk.", self._limit / 1e9)
        self._held += block.nbytes
        return _on_disk(block) if self._held > self._limit else block


def _on_disk(block: torch.Tensor) -> torch.Tensor:
    """Return a copy that is paged in from a file without a name, which ends with the process, however it ends."""
    array = block.numpy()
    try:
        with tempfile.TemporaryFile(prefix="cardiothorax-") as file:
            array.tofile(file)
            file.flush()
            # changes stay in memory, so no slip of a transform reaches the file
            return torch.from_numpy(np.memmap(file, array.dtype, mode="c", shape=array.shape))
    except OSError as error:
        raise UserError(
            f"Cannot keep the volumes in {tempfile.gettempdir()}: {error.strerror}. "
            "Raise memory_limit_gb, or set TMPDIR to a folder with more room."
        ) from error


class SliceDataset(Dataset):
    """All slices of a list of volumes, along one or several planes.

    Args:
        volumes: dictionaries with ``image`` (1, X, Y, Z) and ``label`` (1, X, Y, Z).
        transform: random transforms of ``{"image": (C, H, W) float32, "label": (1, H, W) float32}``.
        planes: the axes that slices are counted along, e.g. ``[2]`` for axial ones alone.
        slice_offsets: the neighbouring slices that become the image's channels.
        seed: together with the epoch and the slice's index it decides what the random transforms draw, so a sample
            is the same whatever the number of workers and however often a training was interrupted.

    ``has_label`` is (N,) bool: whether a slice holds any labelled pixel.
    """

    def __init__(
        self,
        volumes: Sequence[dict],
        transform: Compose | None = None,
        planes: Sequence[int] = (2,),
        slice_offsets: Sequence[int] = (0,),
        seed: int = 0,
    ) -> None:
        if not len(volumes):
            raise UserError(
                "No volumes to train on: the list of cases is empty. Check train_cases and val_cases."
            )
        self.volumes, self.transform, self.seed, self.epoch = volumes, transform, seed, 0
        self.slice_offsets = tuple(slice_offsets)
        self.index, has_label = [], []
        for volume, content in enumerate(volumes):
            for plane in planes:
                others = [axis for axis in range(3) if axis != plane]
                labelled = content["label"][0].numpy().any(axis=tuple(others))
                self.index += [(volume, plane, k) for k in range(len(labelled))]
                has_label.append(labelled)
        self.has_label = np.concatenate(has_label)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        volume, plane, k = self.index[index]
        content = self.volumes[volume]
        sample = {
            "image": slice_with_neighbours(content["image"], k, self.slice_offsets, plane).float(),
            "label": content["label"].select(plane + 1, k).float(),
        }
        return transformed(self.transform, sample, self.seed, self.epoch, index)


class SliceSampler(Sampler[int]):
    """A share of the slices with a label and a share of those without, drawn anew each epoch from (seed, epoch) alone.

    Args:
        dataset: the slices.
        labelled_share: share of the slices with a label to visit in an epoch, in [0, 1]. Neighbours look alike, so
            half of them an epoch teaches nearly as much as all.
        empty_share: share of the slices without a label to visit in an epoch, in [0, 1].
        seed: see :class:`SliceDataset`.

    Raises:
        UserError: when a share is not in [0, 1] or nothing would be left to visit.
    """

    def __init__(
        self, dataset: SliceDataset, labelled_share: float = 1.0, empty_share: float = 1.0, seed: int = 0
    ) -> None:
        for name, share in (("labelled_share", labelled_share), ("empty_share", empty_share)):
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise UserError(f"{name} must be a number between 0 and 1, got {share!r}.")
        self.seed, self.epoch = seed, 0
        labelled, empty = np.flatnonzero(dataset.has_label), np.flatnonzero(~dataset.has_label)
        self._groups = [
            (g, round(len(g) * share)) for g, share in ((labelled, labelled_share), (empty, empty_share))
        ]
        if not len(self):
            raise UserError(
                "No slice to train on: the labels hold no voxel, or labelled_share and empty_share are too small."
            )

    def __len__(self) -> int:
        return sum(drawn for _, drawn in self._groups)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        chosen = [generator.choice(group, drawn, replace=False) for group, drawn in self._groups]
        return iter(generator.permutation(np.concatenate(chosen)).tolist())
