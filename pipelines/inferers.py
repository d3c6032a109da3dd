"""Inferers that bundles name: whole volumes, slice by slice, with test-time flips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import SliceInferer


class FlipSliceInferer(SliceInferer):
    """MONAI's ``SliceInferer``, averaged over flips of the volume.

    Args:
        flips: the in-plane axes to flip for each variant, e.g. ``[[], [0], [1], [0, 1]]``; 0 is X, 1 is Y.
        args: of ``SliceInferer``.
        kwargs: of ``SliceInferer``.

    The result is the logit of the variants' mean probability, so what follows need not know of the flips.
    """

    def __init__(self, *args: Any, flips: Sequence[Sequence[int]] = ((),), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flips = [tuple(axis + 2 for axis in flip) for flip in flips]

    def variants(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        """Return the probabilities (B, 1, X, Y, Z) of each variant, each turned back to the input's orientation."""
        infer = super().__call__
        return [torch.sigmoid(infer(inputs.flip(flip), network)).flip(flip) for flip in self.flips]

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return logits (B, 1, X, Y, Z) for ``inputs`` (B, C, X, Y, Z)."""
        variants = self.variants(inputs, network)
        return torch.logit(torch.stack(variants).mean(0), eps=1e-6)
