"""The same training as a plain MONAI bundle does it, in the style of MONAI's Model Zoo."""

from __future__ import annotations

import copy
import io
import itertools
import logging
import math
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
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

from pipelines.benchmarks.bundle import BundleObjects
from pipelines.benchmarks.meter import batch_size
from pipelines.errors import UserError
from transforms.affine import BatchAffined
from transforms.batch import RandElasticBatchd, RandIntensityBatchd, RandShadingBatchd
from transforms.boxes import RandAffineBatchd


def plain_trainer(objects: BundleObjects, images: int, folder: Path) -> SupervisedTrainer:
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
    dataset = CacheDataset(samples, Compose(_random_transforms(objects, samples)), progress=False)
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


def plain_transforms(transform: Any, width: int) -> list[Any]:
    """Return what a transform of a whole batch does as MONAI's own transforms of one sample.

    Edges are left where they are: turning them as well would cost this training more still.

    Args:
        transform: one of a bundle's ``batch_transforms``.
        width: of the images, pixels.

    Raises:
        UserError: it is none of those that the project has.
    """
    keys = getattr(transform, "keys", ())
    if isinstance(transform, BatchAffined):
        return [copy.deepcopy(transform.transform)]
    if isinstance(transform, RandAffineBatchd):
        moves = {
            "rotate_range": math.radians(transform.rotate),
            "scale_range": [tuple(factor - 1 for factor in transform.scale)] * 2,
            "translate_range": [transform.shift * width] * 2,
        }
        affine = RandAffined(keys, prob=transform.prob, **moves, padding_mode=transform.padding_mode)
        return [RandFlipd(keys, transform.flip, spatial_axis=1), affine]
    if isinstance(transform, RandElasticBatchd):
        points = {"spacing": (transform.spacing,) * 2, "magnitude_range": (0.0, transform.magnitude)}
        return [
            Rand2DElasticd(keys, **points, prob=transform.prob, mode=transform.mode, padding_mode="zeros")
        ]
    if isinstance(transform, RandShadingBatchd):
        return [RandBiasFieldd(keys, coeff_range=(0.0, transform.magnitude), prob=transform.prob)]
    if isinstance(transform, RandIntensityBatchd):
        return [
            RandAdjustContrastd(keys, transform.prob, tuple(transform.gamma)),
            RandScaleIntensityd(keys, tuple(gain - 1 for gain in transform.gain), transform.prob),
            RandShiftIntensityd(keys, tuple(transform.offset), prob=transform.prob),
            RandGaussianNoised(keys, prob=1.0, std=transform.noise),
        ]
    raise UserError(
        f"batch_transforms holds {type(transform).__name__}, and the plain bundle knows no transform of one sample for "
        f"it; add it to {__name__}.plain_transforms"
    )


def _random_transforms(objects: BundleObjects, samples: Sequence[dict[str, Any]]) -> list[Any]:
    """Return a bundle's augmentations, as far as they are of a whole batch, as :func:`plain_transforms`."""
    width = samples[0]["image"].shape[-1]
    of_sample = objects.component("random_transforms") if objects.has("random_transforms") else []
    of_batch = [plain_transforms(transform, width) for transform in objects.component("batch_transforms")]
    return [EnsureTyped(["image", "label"]), *copy.deepcopy(of_sample), *itertools.chain(*of_batch)]


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
    volumes = hasattr(dataset, "volumes")  # they have had their transforms
    transform = Compose([] if volumes else objects.component("deterministic_transforms"))
    samples = (transform(dataset[index]) for index in indices)
    return [{key: sample[key].float() for key in ("image", "label")} for sample in samples]
