"""Networks that MONAI's are a part of."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import UNet
from torch import nn


class HeadedUNet(nn.Module):
    """MONAI's ``UNet`` with a 1x1 convolution behind it that gives the logits.

    MONAI's own last layer, where ``num_res_units`` is above 0, normalises and activates each output channel before a
    residual unit of as many channels. With one channel that holds the logits near zero, and Dice loss then learns
    slowly (docs/decisions/0011-logits-from-a-head.md).

    Args:
        out_channels: of the logits.
        features: channels that the ``UNet`` gives, at full resolution.
        **unet: of :class:`monai.networks.nets.UNet`; 2-D unless ``spatial_dims`` says otherwise.
    """

    def __init__(self, out_channels: int = 1, features: int = 16, **unet: Any) -> None:
        super().__init__()
        dimensions = unet.setdefault("spatial_dims", 2)
        self.unet = UNet(out_channels=features, **unet)
        self.head = (nn.Conv2d if dimensions == 2 else nn.Conv3d)(features, out_channels, kernel_size=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, out_channels, H, W) of ``inputs`` (B, in_channels, H, W); H and W as ``UNet`` asks."""
        return self.head(self.unet(inputs))
