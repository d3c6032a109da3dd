"""MONAI's random affine transform on a whole batch at once, on whatever device the batch is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.transforms import MapTransform, RandAffined

from transforms.draws import uniform


class BatchAffined(MapTransform):
    """Draw MONAI's ``RandAffined`` for each sample of a batch, and apply all that was drawn in one interpolation.

    On small images the calls around the interpolation cost several times the interpolation itself. Image and label of a
    sample get the same transform, each with its own mode, as in ``RandAffined``. What is drawn follows from torch's
    global generator.

    Args:
        transform: MONAI's ``RandAffined`` for 2-D images that keeps their size; its keys are those of (B, C, H, W)
            tensors of one size.

    Raises:
        ValueError: for a ``RandAffined`` with a ``spatial_size``.
    """

    def __init__(self, transform: RandAffined) -> None:
        super().__init__(transform.keys, transform.allow_missing_keys)
        if transform.rand_affine.spatial_size is not None:
            raise ValueError(
                f"a batch keeps its size, got RandAffined with spatial_size {transform.rand_affine.spatial_size}; "
                "leave spatial_size out"
            )
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with each key transformed; tensors that came in are not changed."""
        result = dict(data)
        first = result[self.first_key(result)]
        shape = tuple(first.shape[-2:])
        matrices = self.draw(len(first))
        moved = torch.nonzero((matrices != torch.eye(3)).flatten(1).any(1)).flatten()
        grid = sampling_grid(to_grid(matrices[moved], shape).to(first.device), shape)
        options = (self.transform.mode, self.transform.padding_mode)
        for key, mode, padding_mode in self.key_iterator(result, *options):
            result[key] = resampled(result[key], moved, grid, mode, padding_mode)
        return result

    def draw(self, size: int) -> torch.Tensor:
        """Return MONAI's matrices (size, 3, 3): from a pixel of the result to where it comes from.

        Pixels are counted along rows and columns from the image's centre. The identity stands where ``prob`` spares
        a sample.
        """
        grid = self.transform.rand_affine.rand_affine_grid
        angle, *_ = _drawn(grid.rotate_range, size)
        shear, shift, scale = (
            _drawn(ranges, size, around)
            for ranges, around in ((grid.shear_range, 0), (grid.translate_range, 0), (grid.scale_range, 1))
        )
        chosen = torch.rand(size) < self.transform.prob
        return torch.where(chosen[:, None, None], matrices_2d(angle, shear, shift, scale), torch.eye(3))


def _drawn(ranges: Sequence[Any], size: int, around: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (size,) numbers for rows and for columns, drawn as MONAI's ``RandAffineGrid`` draws one of each."""
    missing = [0.0] * (2 - len(ranges))
    bounds = [(-r, r) if isinstance(r, int | float) else r or (0.0, 0.0) for r in (*ranges, *missing)]
    return tuple(uniform(low, high, size) + around for low, high in bounds[:2])


def matrices_2d(
    angle: torch.Tensor,
    shear: Sequence[torch.Tensor],
    shift: Sequence[torch.Tensor],
    scale: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Return (N, 3, 3) matrices: rotation after shear after translation after scaling, as MONAI's ``AffineGrid``.

    MONAI makes one at a time, of many small tensors, which takes longer than to interpolate a small image.

    Args:
        angle: (N,) radians.
        shear: two times (N,) coefficients.
        shift: two times (N,) pixels, along rows and along columns.
        scale: two times (N,) factors.
    """
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    cos, sin, (first, second) = angle.cos(), angle.sin(), shear
    turned = _stacked([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])
    sheared = _stacked([[one, first, zero], [second, one + first * second, zero], [zero, zero, one]])
    # what is scaled and then shifted
    placed = _stacked([[scale[0], zero, shift[0]], [zero, scale[1], shift[1]], [zero, zero, one]])
    return turned @ sheared @ placed


def _stacked(rows: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    return torch.stack([torch.stack(list(row), dim=-1) for row in rows], dim=1)


def to_grid(matrices: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return MONAI's matrices as torch's: (B, 2, 3) on x, y between -1 and 1 at the image's outer borders.

    Args:
        matrices: (B, 3, 3) on rows and columns in pixels, counted from the image's centre.
        shape: H, W.

    Source: the conventions of ``torch.nn.functional.affine_grid`` with ``align_corners=False``.
    """
    half = matrices.new_tensor([shape[1] / 2, shape[0] / 2, 1.0])
    order = torch.tensor([1, 0, 2])
    return (matrices[:, order][:, :, order] * half / half[:, None])[:, :2]


def sampling_grid(matrices: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return ``torch.nn.functional.affine_grid`` without ``align_corners`` in a quarter of its time.

    Args:
        matrices: (B, 2, 3).
        shape: H, W.

    Returns:
        (B, H, W, 2) x, y of the point that each pixel is taken from.
    """
    down, right = ((2 * torch.arange(n, device=matrices.device) + 1) / n - 1 for n in shape)
    from_x, from_y, start = (column[..., None, None, :] for column in matrices.unbind(-1))
    return from_x * right[None, None, :, None] + (from_y * down[None, :, None, None] + start)


def resampled(
    batch: torch.Tensor,
    chosen: torch.Tensor,
    grid: torch.Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> torch.Tensor:
    """Return ``batch`` (B, C, H, W) with some samples taken from other points; one that came in is not changed.

    Args:
        batch: images.
        chosen: (N,) indices of those samples.
        grid: (N, H, W, 2) points, see :func:`sampling_grid`.
        mode: "bilinear" or "nearest".
        padding_mode: "zeros", "border" or "reflection" outside the image.
    """
    if not len(chosen):
        return batch
    chosen = chosen.to(batch.device)
    taken = F.grid_sample(batch[chosen], grid, mode=mode, padding_mode=padding_mode, align_corners=False)
    return batch.index_copy(0, chosen, taken)
