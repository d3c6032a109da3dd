"""From a loader's batch to what a network takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


class PrepareBatch:
    """A MONAI ``prepare_batch``: move a batch to the device, transform it there as plain tensors, channels-last.

    Args:
        transform: random transforms of a whole batch, ``{"image": (B, C, H, W), "label": (B, 1, H, W)}``.
    """

    def __init__(self, transform: Callable[[dict], dict]) -> None:
        self.transform = transform

    def __call__(
        self,
        batch: Mapping[str, torch.Tensor],
        device: torch.device,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return image and label, float32 where ``kwargs`` of ``Tensor.to`` do not ask for another type."""
        kwargs.setdefault("dtype", torch.float32)
        moved = {
            key: batch[key].as_subclass(torch.Tensor).to(device, non_blocking=non_blocking, **kwargs)
            for key in ("image", "label")
        }
        result = self.transform(moved)
        return result["image"].contiguous(memory_format=torch.channels_last), result["label"]
