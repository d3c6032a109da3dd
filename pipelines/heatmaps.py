"""A network that finds edges: ResNet18's features, one map an edge, and the map's mean position along its axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import resnet18
from torch import nn

BOX_AXES, THORAX_AXES = "xyxy", "xx"  # of a box's edges, and of a range along x


def edge_axes(thorax: bool) -> str:
    """Return the axes of what is learnt: x0, y0, x1, y1 of the heart and, with ``thorax``, that range's x0, x1."""
    return BOX_AXES + THORAX_AXES * bool(thorax)


def soft_argmax(maps: torch.Tensor, axes: str) -> torch.Tensor:
    """Return the mean position of each map along its own axis, so rows and columns cannot be mistaken for one another.

    The outermost cells are repeated once outside the image: half of their weight then lies beyond the border, and the
    positions reach the border itself rather than the middle of the outermost cell.

    Args:
        maps: (B, K, rows, columns) logits.
        axes: K letters, "x" for a position along the columns and "y" along the rows.

    Returns:
        (B, K), 0 at the left or upper border of the image and 1 at the other.

    Source: Sun et al., "Integral human pose regression", ECCV 2018.
    """
    chances = F.pad(maps, (1, 1, 1, 1), mode="replicate").flatten(2).softmax(-1)
    chances = chances.unflatten(2, (maps.shape[2] + 2, maps.shape[3] + 2))
    found = {axis: _means(chances.sum(dim)) for axis, dim in (("x", -2), ("y", -1))}
    return torch.stack([found[axis][:, index] for index, axis in enumerate(axes)], dim=1).clamp(0, 1)


def _means(chances: torch.Tensor) -> torch.Tensor:
    """Return (B, K) mean positions of (B, K, N) chances of the N - 2 cells and one cell beyond either end."""
    count = chances.shape[-1]
    positions = torch.arange(count, device=chances.device, dtype=chances.dtype) - 0.5
    return chances @ (positions / (count - 2))


def ordered(edges: torch.Tensor) -> torch.Tensor:
    """Return edges (B, 4) or (B, 6) with x0 <= x1 and y0 <= y1, those of the range likewise."""
    low, high = torch.minimum(edges[:, :2], edges[:, 2:4]), torch.maximum(edges[:, :2], edges[:, 2:4])
    return torch.cat([low, high, edges[:, 4:].sort(dim=1).values], dim=1)


class EdgeResNet(nn.Module):
    """MONAI's ResNet18, a 1 x 1 convolution to one map an edge, and :func:`soft_argmax`.

    Args:
        axes: of the edges, see :func:`edge_axes`.
        stages: whose features are used, of 1 to 4. The maps of several are added up on the grid of the first of them:
            coarse ones tell where the heart is, fine ones where its edge is. Later stages are left out of the network.
        conv1_t_stride: of the first convolution.
        no_max_pool: leave out the pooling behind it: grids twice as fine, at four times the work.
        **resnet: of :func:`monai.networks.nets.resnet18`.

    With a stride of 2 and pooling the stages' grids are 1/4, 1/8, 1/16 and 1/32 of the image.
    """

    def __init__(
        self,
        axes: str = BOX_AXES,
        stages: Sequence[int] = (3,),
        conv1_t_stride: int = 2,
        no_max_pool: bool = False,
        **resnet: Any,
    ) -> None:
        super().__init__()
        settings = {"spatial_dims": 2, "n_input_channels": 1, "bias_downsample": False, **resnet}
        trunk = resnet18(
            feed_forward=False, conv1_t_stride=conv1_t_stride, no_max_pool=no_max_pool, **settings
        )
        pool = [] if no_max_pool else [trunk.maxpool]
        self.axes = axes
        self.stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.act, *pool)
        self.layers = nn.ModuleList(getattr(trunk, f"layer{n}") for n in range(1, max(stages) + 1))
        self.heads = nn.ModuleDict(
            {str(n): nn.Conv2d(_width(trunk, n), len(axes), 1) for n in sorted(stages)}
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return edges (B, K) in [0, 1] of ``images`` (B, 1, H, W); in use :func:`ordered`, in training as found."""
        edges = soft_argmax(self.maps(images), self.axes)
        return edges if self.training else ordered(edges)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, K, h, w) of the edges' positions."""
        features, found = self.stem(images), []
        for number, layer in enumerate(self.layers, 1):
            features = layer(features)
            if str(number) in self.heads:
                # a position needs more digits than a map in half precision has
                with torch.autocast(images.device.type, enabled=False):
                    found.append(self.heads[str(number)](features.float()))
        size = found[0].shape[-2:]
        coarse = [F.interpolate(maps, size, mode="bilinear", align_corners=False) for maps in found[1:]]
        return sum(coarse, start=found[0])


def _width(trunk: nn.Module, stage: int) -> int:
    return getattr(trunk, f"layer{stage}")[-1].conv2.out_channels
