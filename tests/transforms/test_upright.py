from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd

from transforms.upright import UprightGridd

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.3, -0.2, 0.5) * (0.625, 0.7, 2.5), (-20, 15, 30)
)


def sample(affine=OBLIQUE, shape=(1, 6, 5, 4)):
    values = torch.arange(np.prod(shape), dtype=torch.float32).reshape(shape)
    return {"image": MetaTensor(values, affine=affine), "label": MetaTensor(values, affine=affine)}


def test_grid_stands_upright_at_the_origin_and_voxels_stay():
    result = UprightGridd(["image", "label"])(sample())
    for key in ("image", "label"):
        np.testing.assert_allclose(result[key].affine, np.diag([0.625, 0.7, 2.5, 1]), atol=1e-5)
        assert result[key].affine[0, 0] == 0.625
        np.testing.assert_array_equal(result[key].numpy(), sample()[key].numpy())


def test_inverse_gives_the_affine_back_and_leaves_the_input_alone():
    upright, before = UprightGridd("image"), sample()
    result = upright(before)
    back = upright.inverse(result)
    np.testing.assert_array_equal(back["image"].affine, OBLIQUE)
    np.testing.assert_array_equal(before["image"].affine, OBLIQUE)
    assert (before["image"].applied_operations, back["image"].applied_operations) == ([], [])
    assert result["image"].affine[0, 1] == 0


def test_missing_key_is_an_error_unless_allowed():
    assert set(UprightGridd(["image", "other"], allow_missing_keys=True)(sample())) == {"image", "label"}
    with pytest.raises(KeyError, match="other"):
        UprightGridd("other")(sample())


@pytest.mark.parametrize("depth", [4, 5, 6, 7])
def test_resampling_does_not_depend_on_the_rounding_errors_of_a_header(depth):
    # 2.5 mm slices onto 1 mm: 7.5, 10, 12.5 and 15 steps
    chain = [UprightGridd("image"), Spacingd("image", pixdim=[1, 1, 1])]

    def resampled(affine):
        data = sample(affine, (1, 6, 5, depth))
        for transform in chain:
            data = transform(data)
        return data["image"].numpy()

    np.testing.assert_array_equal(resampled(OBLIQUE), resampled(OBLIQUE.astype(np.float32).astype(float)))
