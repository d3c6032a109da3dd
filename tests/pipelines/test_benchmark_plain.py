"""The plain bundle's augmentation is the bundle's own, one sample at a time."""

from __future__ import annotations

import math

import pytest
from monai.transforms import RandAffined, RandFlipd

from pipelines.benchmarks.plain import plain_transforms
from pipelines.errors import UserError
from transforms.affine import BatchAffined
from transforms.batch import RandElasticBatchd, RandIntensityBatchd, RandShadingBatchd
from transforms.boxes import RandAffineBatchd


def test_a_batchs_own_randaffined_is_taken_as_it_is():
    original = RandAffined("image", prob=0.5, rotate_range=0.12, mode="bilinear")
    (found,) = plain_transforms(BatchAffined(original), 224)
    assert found is not original  # the bundle's own draws go on undisturbed
    assert found.prob == 0.5
    assert found.rand_affine.rand_affine_grid.rotate_range == (0.12,)


def test_what_moves_images_with_boxes_becomes_a_flip_and_an_affine_in_pixels():
    flip, affine = plain_transforms(
        RandAffineBatchd("image", "label", rotate=10, scale=[0.8, 1.2], shift=0.08, flip=0.5), 100
    )
    assert isinstance(flip, RandFlipd)
    assert (flip.prob, affine.prob) == (0.5, 1.0)
    grid = affine.rand_affine.rand_affine_grid
    assert grid.rotate_range == (math.radians(10),)
    assert grid.translate_range == pytest.approx((8, 8))  # 0.08 of 100 pixels
    assert [list(ends) for ends in grid.scale_range] == [pytest.approx([-0.2, 0.2])] * 2  # MONAI adds 1


def test_intensities_are_drawn_from_the_same_ranges():
    gamma, gain, offset, noise = plain_transforms(
        RandIntensityBatchd("image", 0.3, [0.8, 1.25], [0.9, 1.1], [-0.05, 0.05], 0.01), 224
    )
    assert (gamma.prob, gain.prob, offset.prob, noise.prob) == (0.3, 0.3, 0.3, 1.0)
    assert tuple(gamma.adjuster.gamma) == (0.8, 1.25)
    assert tuple(gain.scaler.factors) == pytest.approx((-0.1, 0.1))
    assert tuple(offset.shifter.offsets) == (-0.05, 0.05)
    assert noise.rand_gaussian_noise.std == 0.01


def test_elastic_fields_have_the_same_control_points_chance_and_interpolation():
    modes = ["bilinear", "nearest"]
    (found,) = plain_transforms(RandElasticBatchd(["image", "label"], 0.3, 16, 1.5, modes), 96)
    grid = found.rand_2d_elastic.deform_grid
    assert (found.prob, tuple(grid.spacing), grid.magnitude) == (0.3, (16, 16), (0, 1.5))
    assert list(found.mode) == modes


def test_shading_becomes_a_bias_field_up_to_the_same_strength():
    (found,) = plain_transforms(RandShadingBatchd("image", magnitude=0.5), 96)
    assert found.rand_bias_field.coeff_range == (0.0, 0.5)
    assert found.prob == RandShadingBatchd("image", magnitude=0.5).prob


def test_a_transform_that_it_does_not_know_is_named():
    with pytest.raises(UserError, match="batch_transforms holds RandFlipd, and the plain bundle knows no"):
        plain_transforms(RandFlipd("image"), 224)
