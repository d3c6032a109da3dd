"""How many training images a second TorchIO loads and augments: slabs of five axial slices, 144 x 96 pixels at 1 mm.

    TORCHIO_PYTHON scripts/peers/torchio_loader.py DIR [--workers 2] [--queue 16] [--images 960]

Volumes are prepared once and stay in memory. The kinds, ranges and chances of the augmentation are those of
``bundles/atrium/train.yaml`` as far as TorchIO has them. Without ``--queue`` a random slab is cut and then transformed:
each slab has its own. With it TorchIO's own way is taken: whole volumes are transformed, and a ``Queue`` gets so many
slabs of each, which share what was drawn. To be run by ``turns.py``.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
import torchio as tio
from side import answer, clock

SLAB = (144, 96, 5)
BATCH = 16

PREPARE = tio.Compose(
    [
        tio.ToCanonical(),
        tio.Resample(1.0),
        tio.RescaleIntensity((0, 1), percentiles=(0.5, 99.5)),
        tio.CropOrPad((SLAB[0], SLAB[1], 64), only_pad=True),
    ]
)
CONTROL_POINTS = (10, 7, 4)  # every 16 pixels in the plane, and across it the fewest that there can be
AUGMENT = tio.Compose(
    [
        tio.RandomAffine(
            scales=0.15, isotropic=True, degrees=(0, 0, 0, 0, -45, 45), translation=(12, 12, 0), p=0.5
        ),
        tio.RandomElasticDeformation(CONTROL_POINTS, max_displacement=(3, 3, 0), locked_borders=1, p=0.3),
        tio.RandomBiasField(0.5, p=0.5),
        tio.RandomGamma((math.log(0.4), math.log(2.5)), p=0.5),
        tio.RandomNoise(std=(0, 0.05)),
    ]
)


class Slabs(torch.utils.data.Dataset):
    """A random slab of a volume, transformed.

    Args:
        subjects: prepared.
        length: of an epoch.
    """

    def __init__(self, subjects: list[tio.Subject], length: int) -> None:
        self.subjects, self.length, self.sampler = subjects, length, tio.UniformSampler(SLAB)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tio.Subject:
        subject = self.subjects[index % len(self.subjects)]
        return AUGMENT(next(iter(self.sampler(subject, 1))))


def load(dataset_dir: Path, cases: int) -> list[tio.Subject]:
    """Return the first cases of a data set in the Medical Segmentation Decathlon's layout, prepared."""
    items = json.loads((dataset_dir / "dataset.json").read_text(encoding="utf-8"))["training"][:cases]
    files = [{key: dataset_dir / path for key, path in item.items()} for item in items]
    return [
        PREPARE(tio.Subject(image=tio.ScalarImage(one["image"]), label=tio.LabelMap(one["label"])))
        for one in files
    ]


def main() -> None:
    """Prepare the volumes and answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--queue", type=int, default=0, help="slabs of a volume, at once")
    parser.add_argument("--images", type=int, default=960)
    given = parser.parse_args()
    subjects = load(given.dataset_dir, given.cases)

    def loader() -> tio.SubjectsLoader:
        if not given.queue:
            return tio.SubjectsLoader(
                Slabs(subjects, given.images), batch_size=BATCH, shuffle=True, num_workers=given.workers
            )
        whole = tio.SubjectsDataset(subjects * math.ceil(given.images / given.queue / len(subjects)), AUGMENT)
        queue = tio.Queue(
            whole, 8 * given.queue, given.queue, tio.UniformSampler(SLAB), num_workers=given.workers
        )
        return tio.SubjectsLoader(queue, batch_size=BATCH, num_workers=0)

    def measure() -> float:
        started, images = clock(), 0
        for batch in loader():
            images += len(
                batch["image"][tio.DATA].movedim(-1, 1).squeeze(2).float()
            )  # slices become channels
            if images >= given.images:
                break
        return images / (clock() - started)

    answer(measure)


if __name__ == "__main__":
    main()
