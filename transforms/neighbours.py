"""Neighbouring slices as channels: a little of the third dimension for a 2-D network."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def neighbour_slices(volume: torch.Tensor, offsets: Sequence[int], plane: int = 2) -> torch.Tensor:
    """Return the slices around each slice as channels, repeating the first and last slice beyond the volume.

    Args:
        volume: (B, 1, X, Y, Z) tensor.
        offsets: slice offsets, e.g. ``(-2, -1, 0, 1, 2)``; slice ``k`` of channel ``c`` of the result is slice
            ``k + offsets[c]`` of ``volume``.
        plane: the axis that slices are counted along: 0 (X), 1 (Y) or 2 (Z).

    Returns:
        (B, len(offsets), X, Y, Z) tensor.

    Raises:
        ValueError: when ``volume`` has another shape, or ``offsets`` are none.
    """
    if volume.ndim != 5 or volume.shape[1] != 1:
        raise ValueError(f"volume must have shape (B, 1, X, Y, Z), got {tuple(volume.shape)}")
    axis = plane + 2
    shifted = [volume.index_select(axis, _clamped(offset, volume.shape[axis], volume)) for offset in offsets]
    if not shifted:
        raise ValueError("offsets must name at least one slice, e.g. [0]")
    return torch.cat(shifted, dim=1)


def slice_with_neighbours(
    volume: torch.Tensor, index: int, offsets: Sequence[int], plane: int = 2
) -> torch.Tensor:
    """Return one slice of :func:`neighbour_slices` without making the others.

    Args:
        volume: (1, X, Y, Z) tensor.
        index: of the slice along ``plane``.
        offsets: see :func:`neighbour_slices`.
        plane: the axis that slices are counted along.

    Returns:
        (len(offsets), H, W) tensor, H and W being the two other axes in their order.
    """
    depth = volume.shape[plane + 1]
    return torch.stack(
        [volume[0].select(plane, min(max(index + offset, 0), depth - 1)) for offset in offsets]
    )


def _clamped(offset: int, depth: int, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(offset, depth + offset, device=like.device).clamp(0, depth - 1)
