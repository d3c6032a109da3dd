"""Random transforms of a whole batch at once, on whatever device the batch is.

Each draws one set of parameters a sample, from torch's global generator, in :meth:`draw`, and applies them in
:meth:`apply`. A sample at a time the same work takes several times longer on small slices, because the overhead of a
call, not the arithmetic, is what it costs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from transforms.affine import resampled, sampling_grid
from transforms.draws import gaussian, smooth, uniform


class RandElasticBatchd(MapTransform):
    """Elastic deformation of image and label together: a smooth random displacement of a coarse grid of points.

    Args:
        keys: keys of (B, C, H, W) tensors of one size; all are deformed alike.
        prob: the chance of each sample to be deformed.
        spacing: the distance of the control points, pixels.
        magnitude: the standard deviation of a control point's displacement, pixels.
        mode: interpolation a key, "bilinear" or "nearest".
        allow_missing_keys: do not raise when a key is missing.

    What comes in from outside is 0. The source of the idea is Simard et al., "Best practices for convolutional neural
    networks", ICDAR 2003.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float,
        spacing: int,
        magnitude: float,
        mode: Sequence[str],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.prob, self.spacing, self.magnitude, self.mode = prob, spacing, magnitude, tuple(mode)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with each key deformed; tensors that came in are not changed."""
        result = dict(data)
        size, *_, height, width = data[self.first_key(result)].shape
        chosen, displacement = self.draw(size, height, width)
        for key, mode in self.key_iterator(result, self.mode):
            result[key] = self.apply(result[key], chosen, displacement, mode)
        return result

    def draw(self, size: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which samples to deform, (N,) indices, and by how much, (N, 2, H, W) pixels along x and y."""
        chosen = torch.nonzero(torch.rand(size) < self.prob).flatten()
        points = [max(2, side // self.spacing + 1) for side in (height, width)]
        coarse = torch.randn(len(chosen), 2, *points) * self.magnitude
        return chosen, smooth(coarse, height, width)

    @staticmethod
    def apply(
        batch: torch.Tensor, chosen: torch.Tensor, displacement: torch.Tensor, mode: str
    ) -> torch.Tensor:
        """Return ``batch`` (B, C, H, W) with the ``chosen`` samples sampled at ``displacement`` from each pixel."""
        height, width = batch.shape[-2:]
        identity = torch.eye(2, 3, device=batch.device)[None]
        pixels = torch.tensor([width / 2, height / 2], device=batch.device)
        shift = displacement.to(batch.device).movedim(1, -1) / pixels
        return resampled(batch, chosen, sampling_grid(identity, (height, width)) + shift, mode)


class RandIntensityBatchd(MapTransform):
    """Contrast, brightness and noise of images in [0, 1], drawn anew for each sample.

    Args:
        keys: keys of (B, C, H, W) tensors.
        prob: the chance of each of gamma, gain and offset, for each sample.
        gamma: range of the exponent, drawn uniformly in its logarithm: halving is as likely as doubling. 1 leaves the
            contrast as it is.
        gain: range of the factor.
        offset: range of what is added.
        noise: the largest standard deviation of Gaussian noise; each sample draws its own from 0 on.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        gamma: tuple[float, float] = (1.0, 1.0),
        gain: tuple[float, float] = (1.0, 1.0),
        offset: tuple[float, float] = (0.0, 0.0),
        noise: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.prob, self.gamma, self.gain, self.offset, self.noise = prob, gamma, gain, offset, noise

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with each key changed; tensors that came in are not."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.apply(result[key], *self.draw(len(result[key])))
        return result

    def draw(self, size: int) -> tuple[torch.Tensor, ...]:
        """Return gamma, gain, offset and the noise's standard deviation, (size,) each."""
        return (
            uniform(*map(math.log, self.gamma), size, self.prob).exp(),
            uniform(*self.gain, size, self.prob, 1.0),
            uniform(*self.offset, size, self.prob, 0.0),
            uniform(0.0, self.noise, size),
        )

    @staticmethod
    def apply(
        batch: torch.Tensor,
        gamma: torch.Tensor,
        gain: torch.Tensor,
        offset: torch.Tensor,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        """Return ``batch ** gamma * gain + offset`` plus noise; parameters are (B,), values below 0 count as 0."""
        powered = torch.nonzero(gamma != 1).flatten().to(batch.device)
        gamma, gain, offset, noise = (
            p.to(batch.device).view(-1, *[1] * (batch.ndim - 1)) for p in (gamma, gain, offset, noise)
        )
        changed = batch.clamp(min=0)
        changed.index_copy_(
            0, powered, changed[powered] ** gamma[powered]
        )  # a power costs as much as all else
        changed.mul_(gain).add_(offset)
        return changed.addcmul_(gaussian(changed), noise) if noise.any() else changed


class RandShadingBatchd(MapTransform):
    """Uneven brightness, as the coils of a scanner leave it: a smooth random field that the image is multiplied by.

    Args:
        keys: keys of (B, C, H, W) tensors; the channels of a sample share its field.
        prob: the chance of each sample to be shaded.
        magnitude: the largest standard deviation of the field's logarithm; each sample draws its own from 0 on.
        points: the number of points along each side between which the field is interpolated.
        allow_missing_keys: do not raise when a key is missing.

    The multiplicative field is the model of Van Leemput et al., "Automated model-based bias field correction of MR
    images of the brain", IEEE TMI 1999.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        magnitude: float = 0.5,
        points: int = 4,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.prob, self.magnitude, self.points = prob, magnitude, points

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with each key shaded; tensors that came in are not changed."""
        result = dict(data)
        for key in self.key_iterator(result):
            batch = result[key]
            result[key] = batch * self.draw(*batch.shape[:1], *batch.shape[-2:]).to(batch.device)
        return result

    def draw(self, size: int, height: int, width: int) -> torch.Tensor:
        """Return the field of each sample, (size, 1, height, width), 1 where a sample is not to be shaded."""
        deviation = uniform(0.0, self.magnitude, size, self.prob).view(-1, 1, 1, 1)
        coarse = torch.randn(size, 1, self.points, self.points) * deviation
        return smooth(coarse, height, width).exp()
