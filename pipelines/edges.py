"""Edges of boxes as networks learn and give them: overlap, loss, and inference over test-time variants.

*Edges* are (B, 4) x0, y0, x1, y1 of a box or (B, 6) with a range x0, x1 behind them, as fractions of the image's width
and height, counted from its left upper corner; NaN where a reference is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.data.box_utils import box_iou
from monai.inferers import Inferer
from monai.losses import BoxGIoULoss
from torch import nn

from pipelines.errors import UserError
from pipelines.heatmaps import ordered
from transforms.boxes import RandAffineBatchd

# The weights of DETR (Carion et al., ECCV 2020).
EDGE_WEIGHT, OVERLAP_WEIGHT = 5.0, 2.0
BETA = 0.02  # below this error the loss of an edge is quadratic; 4 or 5 pixels of 224


def paired_iou(prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union (B, 1) of the boxes of two tensors of edges, pair by pair.

    Source: ``monai.data.box_utils.box_iou``.
    """
    boxes = [ordered(edges)[:, :4].float() for edges in (prediction, reference)]
    return box_iou(*boxes).diagonal()[:, None]


class EdgeLoss(nn.Module):
    """The loss of edges; unknown ones (NaN in the reference) do not count.

    Args:
        criterion: "mse", the mean squared error; or "smooth_l1_giou", a smooth L1 of each edge and one less the
            generalised IoU of the boxes (Rezatofighi et al., CVPR 2019).
    """

    def __init__(self, criterion: str = "smooth_l1_giou") -> None:
        super().__init__()
        self.criterion, self.overlap = criterion, BoxGIoULoss()

    def forward(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Return the loss of two tensors of edges; a box has to be known, a range need not.

        The prediction is :func:`~pipelines.heatmaps.ordered` first, as it is in use: if one part of the loss minded
        exchanged edges and the other did not, a training could be caught between them.
        """
        prediction, known = ordered(prediction), ~reference.isnan()
        difference = torch.where(known, prediction - reference.nan_to_num(), 0.0)
        if self.criterion == "mse":
            return difference.square().sum() / known.sum()
        edges = F.smooth_l1_loss(difference, torch.zeros_like(difference), beta=BETA, reduction="sum")
        overlap = self.overlap(prediction[:, :4].float(), reference[:, :4].float())
        return EDGE_WEIGHT * edges / known.sum() + OVERLAP_WEIGHT * overlap


class VariantsInferer(Inferer):
    """The mean of a network's edges over variants of the image, each moved back to where they are in the image itself.

    Args:
        variants: [scale, shift to the right, shift down] each; the scale is about the image's centre, shifts are
            fractions of its width and height. [1, 0, 0] is the image itself. A scale below 1 keeps what is near the
            border inside, a negative one mirrors left and right as well.
        mirrored: whether the network was trained with mirrored images; mirrored variants are left out where it was not.

    Raises:
        UserError: a variant that is not three such numbers, or none to use.
    """

    def __init__(self, variants: Sequence[Sequence[float]] = ((1, 0, 0),), mirrored: bool = True) -> None:
        super().__init__()
        for variant in variants if isinstance(variants, list | tuple) else [variants]:
            if not _is_variant(variant):
                raise UserError(
                    "variants must be a list of [scale from 0.5 to 2 (negative: mirrored), shift right, shift down], "
                    f"e.g. [[1,0,0],[0.95,0.02,0]], got {variant!r}"
                )
        self._variants = [tuple(map(float, variant)) for variant in variants if mirrored or variant[0] > 0]
        if not self._variants:
            raise UserError(
                f"variants must hold one at least that can be used, got {variants!r}; mirrored ones, of a negative "
                "scale, are for networks that were trained with mirrored images (flip_prob above 0)"
            )

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *_: Any, **__: Any
    ) -> torch.Tensor:
        """Return edges (B, K) of ``inputs`` (B, 1, H, W)."""
        return self.variants(inputs, network).mean(0)

    def variants(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return the edges (V, B, K) that each variant gives."""
        plain = inputs.as_subclass(torch.Tensor)  # MONAI's tensors would carry an image's metadata along
        return torch.stack([self._one(plain, network, *variant) for variant in self._variants])

    @staticmethod
    def _one(
        inputs: torch.Tensor, network: Callable[..., torch.Tensor], scale: float, right: float, down: float
    ) -> torch.Tensor:
        if (scale, right, down) == (1, 0, 0):
            return network(inputs)
        matrix = inputs.new_tensor([[scale, 0, 2 * right], [0, abs(scale), 2 * down]]).expand(
            len(inputs), 2, 3
        )
        seen = RandAffineBatchd.apply(inputs, matrix)
        edges = network(seen.contiguous(memory_format=torch.channels_last))
        columns = edges.new_tensor([True, False, True, False, True, True], dtype=torch.bool)[: edges.shape[1]]
        shift = torch.where(columns, right, down)
        factor = torch.where(columns, scale, abs(scale))
        return ordered((edges - shift - 0.5) / factor + 0.5).clamp(0, 1)


def _is_variant(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return False
    if not all(isinstance(part, int | float) for part in value):
        return False
    return 0.5 <= abs(value[0]) <= 2 and all(abs(shift) < 1 for shift in value[1:])
