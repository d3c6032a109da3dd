"""Inferers that bundles name: whole volumes through a 2-D network, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SliceInferer

from pipelines.errors import UserError
from transforms.neighbours import neighbour_slices


class PlanesInferer(Inferer):
    """MONAI's ``SliceInferer`` along several planes of a volume, averaged, each slice with its neighbours.

    Args:
        planes: the axes to go along: 0 (X, sagittal in RAS), 1 (Y, coronal), 2 (Z, axial).
        slice_offsets: the neighbouring slices that the network takes as channels.
        flips: test-time flips to average over: each names the axes to flip, e.g. ``[[], [0], [0, 1]]``.
        batch_size: slices at once.

    Raises:
        UserError: when ``flips`` are no lists of axes.

    The idea of one network for all planes is Perslev et al., "One network to segment them all", MICCAI 2019.
    """

    def __init__(
        self,
        planes: Sequence[int] = (2,),
        slice_offsets: Sequence[int] = (0,),
        flips: Sequence[Sequence[int]] = ((),),
        batch_size: int = 16,
    ) -> None:
        super().__init__()
        self.planes, self.slice_offsets = tuple(planes), tuple(slice_offsets)
        if not flips or not all(isinstance(flip, list | tuple) and set(flip) <= {0, 1, 2} for flip in flips):
            raise UserError(
                f"flips must be a list of lists of axes from 0 to 2, e.g. [[], [0]] ([[]] is none), got {flips!r}."
            )
        self.flips = [tuple(axis + 2 for axis in flip) for flip in flips]
        self.batch_size = batch_size

    def variants(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        """Return one probability map a plane and flip, in the input's orientation.

        Args:
            inputs: (B, 1, X, Y, Z).
            network: (N, len(slice_offsets), H, W) to logits (N, 1, H, W).

        Returns:
            (B, 1, X, Y, Z) each, between 0 and 1.
        """
        return [
            self._along(plane, inputs.flip(flip), network).flip(flip)
            for plane in self.planes
            for flip in self.flips
        ]

    def _along(self, plane: int, inputs: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        slices = SliceInferer(plane, roi_size=(-1, -1), sw_batch_size=self.batch_size)
        return torch.sigmoid(slices(neighbour_slices(inputs, self.slice_offsets, plane), network))

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the logits (B, 1, X, Y, Z) of the mean of :meth:`variants` for ``inputs`` (B, 1, X, Y, Z)."""
        return self.average(self.variants(inputs, network))

    @staticmethod
    def average(variants: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the logits of the variants' mean probability, of their shape, between ±13.8."""
        return torch.logit(sum(variants) / len(variants), eps=1e-6)
