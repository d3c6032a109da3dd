"""Neighbouring slices as channels: a little of the third dimension for a 2-D network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform


def neighbour_slices(volume: torch.Tensor, offsets: Sequence[int]) -> torch.Tensor:
    """Return the slices around each slice as channels, repeating the first and last slice beyond the volume.

    Args:
        volume: (1, X, Y, Z) tensor; Z is the slice axis.
        offsets: evenly spaced, ascending slice offsets, e.g. ``(-2, -1, 0, 1, 2)``; slice ``z`` of channel ``c``
            of the result is slice ``z + offsets[c]`` of ``volume``.

    Returns:
        (len(offsets), X, Y, Z) tensor. It is a view of one padded copy, so it costs no more memory than that.

    Raises:
        ValueError: when ``volume`` has no single channel, or ``offsets`` are not ascending and evenly spaced.
    """
    steps = {b - a for a, b in zip(offsets[:-1], offsets[1:], strict=True)} or {1}
    if len(steps) != 1 or min(steps) < 1:
        raise ValueError(f"offsets must be ascending and evenly spaced, e.g. [-1, 0, 1], got {list(offsets)}")
    if volume.ndim != 4 or volume.shape[0] != 1:
        raise ValueError(f"volume must have shape (1, X, Y, Z), got {tuple(volume.shape)}")
    step, reach = steps.pop(), offsets[-1] - offsets[0]
    depth = volume.shape[-1]
    index = torch.arange(offsets[0], depth + offsets[-1], device=volume.device).clamp(0, depth - 1)
    windows = volume[0].index_select(-1, index).unfold(-1, reach + 1, 1)[..., ::step]
    return windows.movedim(-1, 0)


class NeighbourSlicesd(MapTransform):
    """Dictionary form of :func:`neighbour_slices`; metadata and traced transforms of the image are kept.

    Args:
        keys: keys of (1, X, Y, Z) volumes.
        offsets: see :func:`neighbour_slices`.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self, keys: KeysCollection, offsets: Sequence[int], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.offsets = tuple(offsets)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = neighbour_slices(result[key], self.offsets)
        return result
