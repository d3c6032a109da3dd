"""Random transforms of a sample that depend on (seed, epoch, sample) and on nothing else, and the order of samples."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np
from monai.data import get_track_meta, set_track_meta
from monai.transforms import Compose, Randomizable
from torch.utils.data import Sampler


def transformed(transform: Compose | None, sample: dict[str, Any], *key: int) -> dict[str, Any]:
    """Return ``sample`` after ``transform``, whose random draws follow from ``key`` alone, as plain tensors.

    Args:
        transform: None, or none at all, changes nothing.
        sample: what the transform takes.
        key: whole numbers from 0, e.g. seed, epoch and index: a sample is then the same whatever the number of
            workers and however often a training was interrupted.
    """
    if transform is None or not transform.transforms:
        return sample
    # of one that never acts nothing is drawn: to seed two takes longer than all else that happens to an X-ray
    if any(isinstance(part, Randomizable) and getattr(part, "prob", 1) for part in transform.transforms):
        transform.set_random_state(seed=int(np.random.SeedSequence(key).generate_state(1)[0]))
    with plain_tensors():
        return transform(sample)


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Let MONAI's transforms give plain tensors: on small images, metadata costs more than the transform itself."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


class EpochSampler(Sampler[int]):
    """Every sample once an epoch, in an order drawn from (seed, epoch) alone.

    Args:
        dataset: the samples.
        seed: of the run; the training sets ``epoch``.
    """

    def __init__(self, dataset: Sized, seed: int = 0) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(len(self)).tolist())
