"""MONAI's random affine transform on a whole batch at once, on whatever device the batch is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.transforms import MapTransform, RandAffined


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
        size, *_, height, width = result[self.first_key(result)].shape
        matrices = to_grid(self.draw(size, (height, width)), (height, width))
        options = (self.transform.mode, self.transform.padding_mode)
        for key, mode, padding_mode in self.key_iterator(result, *options):
            result[key] = warp(result[key], matrices, mode, padding_mode)
        return result

    def draw(self, size: int, shape: Sequence[int]) -> torch.Tensor:
        """Return MONAI's matrices (size, 3, 3): from a pixel of the result to where it comes from.

        Pixels are counted along rows and columns from the image's centre. The identity stands where ``prob`` spares
        a sample.

        Args:
            size: how many.
            shape: H, W.
        """
        self.transform.set_random_state(seed=int(torch.randint(2**31 - 1, ())))
        drawn, grid = [], self.transform.rand_affine.rand_affine_grid
        for _ in range(size):
            self.transform.randomize(None)
            if self.transform._do_transform:
                grid(shape, randomize=True, lazy=True)  # lazy: the matrix alone, no grid
            drawn.append(grid.get_transformation_matrix() if self.transform._do_transform else torch.eye(3))
        return torch.stack([torch.as_tensor(matrix, dtype=torch.float32) for matrix in drawn])


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


def warp(
    batch: torch.Tensor, matrices: torch.Tensor, mode: str = "bilinear", padding_mode: str = "zeros"
) -> torch.Tensor:
    """Return ``batch`` (B, C, H, W), each pixel taken from where ``matrices`` (B, 2, 3) send it.

    Args:
        batch: images.
        matrices: of ``torch.nn.functional.affine_grid``, with ``align_corners=False``.
        mode: "bilinear" or "nearest".
        padding_mode: "zeros", "border" or "reflection" outside the image.
    """
    grid = F.affine_grid(matrices.to(batch), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, mode=mode, padding_mode=padding_mode, align_corners=False)
