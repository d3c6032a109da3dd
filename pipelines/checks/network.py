"""Whether a network takes what a training is going to give it, found out before anything is prepared."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from pipelines.console import in_one_line
from pipelines.errors import UserError


def require_fitting(
    network: nn.Module, channels: int, patch_size: Sequence[int], planes: Sequence[int]
) -> None:
    """Run ``network`` once on an empty batch of each plane's size.

    Args:
        network: from (B, channels, H, W) to (B, 1, H, W); not to be used afterwards.
        channels: of its input.
        patch_size: length of the slices along X, Y and Z, pixels.
        planes: the axes that slices are counted along.

    Raises:
        UserError: it does not take such a batch, or answers with another size.
    """
    for plane in planes:
        size = [side for axis, side in enumerate(patch_size) if axis != plane]
        batch = torch.zeros(2, channels, *size)
        try:
            came = tuple(network(batch).shape)
        except (RuntimeError, ValueError, TypeError) as error:
            raise UserError(
                f"The network does not take slices of {size[0]} x {size[1]} pixels with {channels} channels: "
                f"{in_one_line(error)[:200]}\nEach side of patch_size must be divisible by the product of the "
                "network's strides, and in_channels must be the number of slice_offsets."
            ) from error
        if came != (2, 1, *size):
            raise UserError(
                f"expected the network to answer slices of {size[0]} x {size[1]} pixels with one channel of that size, "
                f"got {came[1:]};\nset out_channels to 1, and patch_size to multiples of the strides' product"
            )
