"""An upright grid: the same voxels, without where the patient lay and how the scan was tilted."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform

STEP_MM = 2.0**-16  # far below a scanner's precision, above that of a header's single-precision numbers


class UprightGridd(MapTransform, InvertibleTransform):
    """Replace the affine by that of an upright grid at the origin, spacing alone; no voxel changes.

    MONAI's ``Spacing`` lays its grid from the volume's corner, but from its centre where the affine's rounding errors
    exceed 1e-8, and rounds sizes that lie between two whole numbers as those errors say. After this transform the
    result depends on voxels and spacing alone. The inverse gives the affine back.

    Args:
        keys: keys of (C, X, Y, Z) MetaTensors, axes already in a common order (``Orientationd``).
        allow_missing_keys: do not raise when a key is missing.
    """

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Return ``data`` with each key on its upright grid, contiguous; spacings are rounded to 2^-16 mm."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            upright = MetaTensor(
                image.as_tensor().contiguous(), meta=image.meta, applied_operations=image.applied_operations
            )
            spacing = torch.as_tensor(image.pixdim, dtype=torch.float64)
            upright.affine = torch.diag(torch.cat([(spacing / STEP_MM).round() * STEP_MM, torch.ones(1)]))
            self.push_transform(upright, extra_info={"affine": image.affine})
            result[key] = upright
        return result

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Return ``data`` with the affines that each key had before."""
        result = dict(data)
        for key in self.key_iterator(result):
            turned = result[key].clone()
            turned.affine = self.pop_transform(turned)["extra_info"]["affine"]
            result[key] = turned
        return result
