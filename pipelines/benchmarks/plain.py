"""The same training as a plain MONAI bundle does it, in the style of MONAI's Model Zoo."""

from __future__ import annotations

import copy
import io
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedTrainer
from monai.handlers import MLFlowHandler, StatsHandler, from_engine
from monai.inferers import SimpleInferer
from monai.transforms import (
    Compose,
    EnsureTyped,
    Rand2DElasticd,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

from pipelines.benchmarks.bundle import BundleObjects
from pipelines.benchmarks.meter import batch_size


def plain_trainer(objects: BundleObjects, bundle: str, images: int, folder: Path) -> SupervisedTrainer:
    """Return a trainer for the same network, loss, optimizer, batches and kinds of augmentation as the bundle's.

    As in the Model Zoo: a ``CacheDataset``, random transforms of one sample after the other, MONAI's ``DataLoader``,
    ``StatsHandler`` and ``MLFlowHandler`` as they are by default, float32, the usual memory format. It has no
    validation, checkpoint, schedule or averaged weights. An epoch is ``images`` images, and all of them are cached.
    """
    loader = objects.component("train#trainer").data_loader
    batches = list(itertools.islice(loader.batch_sampler, max(1, images // batch_size(loader))))
    ends = list(itertools.accumulate(map(len, batches), initial=0))
    positions = [list(range(*pair)) for pair in itertools.pairwise(ends)]
    samples = _without_randomness(objects, [index for batch in batches for index in batch])
    dataset = CacheDataset(samples, Compose(random_transforms(bundle)), progress=False)
    device = objects.component("device")
    network = copy.deepcopy(objects.component("network")).to(
        device, torch.float32, memory_format=torch.contiguous_format
    )
    original = objects.component("optimizer")
    uri = f"sqlite:///{folder / 'plain.db'}"
    return SupervisedTrainer(
        device=torch.device(device),
        max_epochs=1,
        train_data_loader=DataLoader(dataset, batch_sampler=positions),
        network=network,
        optimizer=type(original)(network.parameters(), lr=original.defaults["lr"]),
        loss_function=objects.component("loss"),
        inferer=SimpleInferer(),
        train_handlers=[
            StatsHandler(
                tag_name="train_loss", name=_unseen_log(), output_transform=from_engine("loss", first=True)
            ),
            MLFlowHandler(uri, output_transform=from_engine("loss", first=True)),
        ],
    )


def random_transforms(bundle: str) -> list[Any]:
    """Return a bundle's augmentations as MONAI's own transforms of one sample.

    The edges of ``cardiac`` are left where they are: turning them as well would cost this training more still.
    """
    affine = {
        "atrium": {"rotate_range": 0.7854, "scale_range": [0.15, 0.15], "translate_range": [12, 12]},
        "pneumonia": {"rotate_range": 0.12, "scale_range": [0.08, 0.08], "translate_range": [11, 11]},
        "cardiac": {"rotate_range": 0.1745, "scale_range": [0.2, 0.2], "translate_range": [18, 18]},
    }[bundle]
    prob = 1.0 if bundle == "cardiac" else 0.5
    keys = ["image", "label"] if bundle == "atrium" else ["image"]
    modes = ["bilinear", "nearest"][: len(keys)]
    elastic = {"prob": 0.3, "spacing": (16, 16), "magnitude_range": (0.0, 1.5), "padding_mode": "zeros"}
    return [
        EnsureTyped(["image", "label"]),
        RandAffined(keys, prob=prob, mode=modes, padding_mode="zeros", **affine),
        *([Rand2DElasticd(keys, mode=modes, **elastic)] if bundle == "atrium" else []),
        RandAdjustContrastd("image", prob=0.5, gamma=(0.6, 1.6)),
        RandScaleIntensityd("image", prob=0.5, factors=0.3),
        RandShiftIntensityd("image", prob=0.5, offsets=0.15),
        RandGaussianNoised("image", prob=1.0, std=0.05),
    ]


def _unseen_log() -> str:
    """Return the name of a log whose lines are made and written, and shown to nobody."""
    logger = logging.getLogger("pipelines.benchmarks.plain.stats")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [logging.StreamHandler(io.StringIO())]
    return logger.name


def _without_randomness(objects: BundleObjects, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Return samples of the bundle's training set before its random transforms."""
    dataset = copy.copy(objects.component("train#trainer").data_loader.dataset)
    dataset.transform = None
    fixed = [name for name in ("deterministic_transforms", "label_transforms") if objects.has(name)]
    if hasattr(dataset, "volumes"):  # volumes have had them
        fixed = []
    transform = Compose([part for name in fixed for part in objects.component(name)])
    samples = (transform(dataset[index]) for index in indices)
    return [{key: sample[key] for key in ("image", "label")} for sample in samples]
