"""Every 2-D slice of every volume in a list, read from volumes that were prepared once."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, get_track_meta, set_track_meta
from monai.transforms import Compose
from torch.utils.data import Dataset, Sampler

from pipelines.errors import UserError
from pipelines.progress import track
from transforms.neighbours import slice_with_neighbours

logger = logging.getLogger(__name__)


class VolumeCache(Sequence):
    """Volumes after the deterministic transforms, in compact types, in memory up to a limit and beyond it on disk.

    Args:
        data: one dictionary a case, e.g. ``{"case": "la_001", "image": path, "label": path}``.
        transform: the deterministic transforms; give ``image`` (C, X, Y, Z) in [0, 1] and ``label`` (1, X, Y, Z).
        memory_limit_gb: gigabytes of voxels to hold in memory; volumes beyond it are kept as files that the
            operating system pages in (and may drop again), so a data set of any size can be trained on.

    Images are held as float16 and labels as uint8.
    """

    def __init__(self, data: Sequence[dict], transform: Callable, memory_limit_gb: float = 8.0) -> None:
        self._limit, self._held = memory_limit_gb * 1e9, 0.0
        self._folder: tempfile.TemporaryDirectory | None = None
        self._items = [self._prepare(item, transform) for item in track(data, "Preparing volumes")]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._items[index]

    def _prepare(self, item: dict, transform: Callable) -> dict[str, Any]:
        sample = transform(item)
        return {
            "case": item["case"],
            "image": self._hold(sample["image"], torch.float16),
            "label": self._hold(sample["label"], torch.uint8),
        }

    def _hold(self, array: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return ``array`` as a compact ``dtype`` block without metadata, in memory or on disk."""
        block = torch.empty(array.shape, dtype=dtype)
        block.copy_(array.as_tensor() if isinstance(array, MetaTensor) else array)
        self._held += block.nbytes
        return self._on_disk(block) if self._held > self._limit else block

    def _on_disk(self, block: torch.Tensor) -> torch.Tensor:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="cardiothorax-")
            logger.info("The volumes pass %.1f GB: the rest is kept on disk.", self._limit / 1e9)
        path = Path(self._folder.name) / f"{len(list(Path(self._folder.name).iterdir()))}.npy"
        np.save(path, block.numpy())
        return torch.from_numpy(np.load(path, mmap_mode="c"))


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Let MONAI's transforms give plain tensors: on small slices, metadata costs more than the transform itself."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


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
        if self.transform is None:
            return sample
        draw = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)[0]
        self.transform.set_random_state(seed=int(draw))
        with plain_tensors():
            return self.transform(sample)


class SliceSampler(Sampler[int]):
    """Each slice with a label once an epoch, and a share of the empty ones, in an order of (seed, epoch) alone.

    Args:
        dataset: the slices.
        empty_share: share of the slices without a label to visit in an epoch, drawn anew each time, in [0, 1].
        seed: see :class:`SliceDataset`.

    Raises:
        UserError: when ``empty_share`` is not in [0, 1] or nothing would be left to visit.
    """

    def __init__(self, dataset: SliceDataset, empty_share: float = 1.0, seed: int = 0) -> None:
        if not 0 <= empty_share <= 1:
            raise UserError(f"empty_share must be between 0 and 1, got {empty_share}.")
        self.seed, self.epoch = seed, 0
        self.labelled = np.flatnonzero(dataset.has_label)
        self.empty = np.flatnonzero(~dataset.has_label)
        self.drawn = round(len(self.empty) * empty_share)
        if not len(self):
            raise UserError("No slice to train on: no label holds a voxel and empty_share is 0.")

    def __len__(self) -> int:
        return len(self.labelled) + self.drawn

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        chosen = np.concatenate([self.labelled, generator.choice(self.empty, self.drawn, replace=False)])
        return iter(generator.permutation(chosen).tolist())
