"""What random transforms of whole batches draw, from torch's global generator and on the processor."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F


def uniform(low: float, high: float, size: int, prob: float = 1.0, otherwise: float = 0.0) -> torch.Tensor:
    """Return (size,) numbers between ``low`` and ``high``, each replaced by ``otherwise`` with chance ``1 - prob``."""
    values = torch.rand(size) * (high - low) + low
    return torch.where(torch.rand(size) < prob, values, torch.full((size,), otherwise))


def smooth(coarse: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return ``coarse`` (…, h, w) interpolated to (…, height, width), bicubic, corners on corners.

    The same as ``torch.nn.functional.interpolate`` in a tenth of its time: two products with its weights.
    """
    return _weights(coarse.shape[-2], height) @ coarse @ _weights(coarse.shape[-1], width).T


@cache
def _weights(points: int, length: int) -> torch.Tensor:
    """Return (length, points): what each of ``points`` values adds to each of ``length`` interpolated ones."""
    one_each = torch.eye(points)[None, :, :, None].expand(1, points, points, 2)
    return F.interpolate(one_each, (length, 2), mode="bicubic", align_corners=True)[0, :, :, 0].T.contiguous()


def gaussian(like: torch.Tensor) -> torch.Tensor:
    """Return standard normal numbers, float32, in the shape of ``like``: a window at random of a long fixed row.

    To draw a number for each pixel takes a processor longer than all other augmentation of a batch. Within a batch
    no number is used twice; where the row is too short for that, new ones are drawn.
    """
    row, n = _row(like.device), like.numel()
    if 2 * n > len(row):
        return torch.randn(like.shape, device=like.device)
    start = int(torch.randint(len(row) - n + 1, ()))
    return row[start : start + n].view(like.shape)


@cache
def _row(device: torch.device) -> torch.Tensor:
    return torch.randn(2**23, generator=torch.Generator().manual_seed(0)).to(device)
