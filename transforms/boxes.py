"""Random affine transforms of a whole batch of images, and of the boxes of what is in them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from transforms.affine import resampled, sampling_grid
from transforms.draws import uniform


class RandAffineBatchd(MapTransform):
    """Rotate, scale and shift images, and the edges of boxes in them alike; each sample draws its own parameters.

    Args:
        keys: keys of (B, C, H, W) images of one size.
        edge_keys: keys of (B, 4) or (B, 6) edges, see :meth:`apply_to_edges`; none where images have no boxes.
        prob: the chance of each of rotation, scale and each direction of the shift, for each sample.
        rotate: the largest angle, degrees, either way.
        scale: range of the factor about the image's centre; above 1 enlarges.
        shift: the largest shift either way, as a fraction of the width and of the height.
        flip: the chance of each sample to be mirrored, left to right, before that.
        padding_mode: of ``torch.nn.functional.grid_sample``: "zeros", "border" or "reflection" outside the image.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        edge_keys: Sequence[str] | str = (),
        prob: float = 1.0,
        rotate: float = 0.0,
        scale: Sequence[float] = (1.0, 1.0),
        shift: float = 0.0,
        flip: float = 0.0,
        padding_mode: str = "zeros",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.edge_keys = (edge_keys,) if isinstance(edge_keys, str) else tuple(edge_keys)
        self.prob, self.rotate, self.scale, self.shift = prob, rotate, tuple(scale), shift
        self.flip, self.padding_mode = flip, padding_mode

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with images and edges moved together; tensors that came in are not changed."""
        result = dict(data)
        size, *_, height, width = result[self.first_key(result)].shape
        matrices = self.draw(size, width / height)
        for key in self.key_iterator(result):
            result[key] = self.apply(result[key], matrices, self.padding_mode)
        for key in self.edge_keys:
            result[key] = self.apply_to_edges(result[key], matrices, width / height)
        return result

    def draw(self, size: int, aspect: float = 1.0) -> torch.Tensor:
        """Return (size, 2, 3) matrices that say where a point of each image goes.

        Points are counted from the image's centre, x to the right and y down, in halves of its width and height:
        its corners are (-1, -1) and (1, 1).

        Args:
            size: how many.
            aspect: width divided by height.
        """
        angle = torch.deg2rad(uniform(-self.rotate, self.rotate, size, self.prob))
        factor = uniform(*self.scale, size, self.prob, 1.0)
        right, down = (2 * uniform(-self.shift, self.shift, size, self.prob) for _ in range(2))
        cos, sin = factor * angle.cos(), factor * angle.sin()
        side = 1 - 2 * uniform(1, 1, size, self.flip)  # -1 mirrors
        rows = [cos * side, -sin / aspect, right], [sin * aspect * side, cos, down]
        return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)

    @staticmethod
    def apply(batch: torch.Tensor, matrices: torch.Tensor, padding_mode: str = "zeros") -> torch.Tensor:
        """Return ``batch`` (B, C, H, W) after ``matrices`` (B, 2, 3), by linear interpolation."""
        last = matrices.new_tensor([0.0, 0.0, 1.0]).expand(len(matrices), 1, 3)
        backwards = torch.linalg.inv(torch.cat([matrices, last], dim=1))[:, :2]
        grid = sampling_grid(backwards.to(batch), batch.shape[-2:])
        return resampled(batch, torch.arange(len(batch)), grid, padding_mode=padding_mode)

    @staticmethod
    def apply_to_edges(edges: torch.Tensor, matrices: torch.Tensor, aspect: float = 1.0) -> torch.Tensor:
        """Return where ``matrices`` (B, 2, 3) move edges: those of the ellipse that fills the box before.

        A box says nothing of where in it the organ touches its edges. That of a turned box's corners is far too large,
        that of the inscribed ellipse is exact for an ellipse, which a heart resembles.

        Args:
            edges: (B, 4) x0, y0, x1, y1 of a box, or (B, 6) with the range x0, x1 of what surrounds it, as fractions of
                the image's width and height; NaN stays NaN. The range has no rows: it is taken for that of a circle
                about the box's middle row, so its width stays as it is when it turns.
            matrices: as :meth:`draw` gives them.
            aspect: width divided by height.

        Returns:
            the same shape, cut off at the image's border.
        """
        matrices, centred = matrices.to(edges), edges * 2 - 1
        centre, half = _middle_and_half(centred[:, :2], centred[:, 2:4])
        parts = list(_moved(centre, half, matrices))
        if edges.shape[1] > 4:
            middle, width = _middle_and_half(centred[:, 4], centred[:, 5])
            centre = torch.stack([middle, centre[:, 1]], dim=1)
            low, high = _moved(centre, torch.stack([width, width * aspect], dim=1), matrices)
            parts += [low[:, :1], high[:, :1]]
        return ((torch.cat(parts, dim=1) + 1) / 2).clamp(0, 1)


def _middle_and_half(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (low + high) / 2, (high - low) / 2


def _moved(
    centre: torch.Tensor, half: torch.Tensor, matrices: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the box, (B, 2) low and high corners, of an ellipse with axes ``half`` (B, 2) after ``matrices``."""
    linear, shift = matrices[:, :, :2], matrices[:, :, 2]
    centre = (linear @ centre[..., None]).squeeze(-1) + shift
    reach = (linear * half[:, None]).square().sum(-1).sqrt()
    return centre - reach, centre + reach
