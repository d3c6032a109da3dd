"""Random transforms of whole batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy import stats

from transforms.batch import RandElasticBatchd, RandIntensityBatchd, RandShadingBatchd
from transforms.draws import gaussian, smooth, uniform


def batch(size=4, height=24, width=32):
    torch.manual_seed(0)
    image = torch.rand(size, 3, height, width)
    return {"image": image, "label": (image[:, :1] > 0.5).float()}


def elastic(prob=1.0, magnitude=2.0):
    return RandElasticBatchd(("image", "label"), prob, 8, magnitude, ("bilinear", "nearest"))


def test_image_and_label_are_deformed_alike():
    data = batch()
    data["label"] = data["image"][:, :1].clone()
    both = RandElasticBatchd(("image", "label"), 1.0, 8, 2.0, ("nearest", "nearest"))(data)
    assert torch.equal(both["image"][:, :1], both["label"])
    assert not torch.equal(both["label"], data["label"])


def test_a_displacement_of_one_pixel_moves_the_picture_by_one_pixel():
    image = batch(1)["image"]
    displacement = torch.zeros(1, 2, 24, 32)
    displacement[:, 0] = 1  # along x, the last axis: each pixel shows its right neighbour
    moved = RandElasticBatchd.apply(image, torch.tensor([0]), displacement, "bilinear")
    assert torch.allclose(moved[..., :-1], image[..., 1:], atol=1e-5)
    assert torch.allclose(moved[..., -1], torch.zeros(()), atol=1e-5)


def test_no_displacement_changes_nothing():
    data = batch()
    result = elastic(magnitude=0.0)(data)
    assert torch.allclose(result["image"], data["image"], atol=1e-5)
    assert torch.equal(result["label"], data["label"])


def test_a_chance_of_zero_changes_nothing_and_one_changes_every_sample():
    data = batch()
    assert torch.equal(elastic(prob=0.0)(data)["image"], data["image"])
    changed = elastic(prob=1.0)(data)["image"] != data["image"]
    assert changed.flatten(1).any(1).all()


def test_a_label_stays_a_mask():
    assert set(elastic()(batch())["label"].unique().tolist()) == {0.0, 1.0}


def test_the_displacement_has_the_stated_size_at_the_control_points():
    torch.manual_seed(0)
    _, displacement = elastic(magnitude=3.0).draw(200, 9, 9)  # control points at the corners and the middle
    assert abs(displacement[..., 0, 0].std().item() - 3.0) < 0.3


def test_the_input_is_not_changed_in_place():
    data = batch()
    before = data["image"].clone()
    elastic()(data)
    RandIntensityBatchd("image", 1.0, (0.5, 2.0), (0.5, 2.0), (-1, 1), 0.1)(data)
    RandShadingBatchd("image", 1.0)(data)
    assert torch.equal(data["image"], before)


def test_the_same_seed_draws_the_same():
    data = batch()
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(RandIntensityBatchd("image", noise=0.1)(elastic()(data))["image"])
    assert torch.equal(*results)


def test_intensity_is_power_then_gain_then_offset_for_each_sample():
    image = torch.full((2, 1, 2, 2), 0.25)
    gamma, gain, offset = torch.tensor([0.5, 1.0]), torch.tensor([2.0, 1.0]), torch.tensor([0.0, 0.1])
    changed = RandIntensityBatchd.apply(image, gamma, gain, offset, torch.zeros(2))
    assert torch.allclose(changed[0], torch.tensor(1.0))
    assert torch.allclose(changed[1], torch.tensor(0.35))


def test_unit_ranges_leave_the_image_alone():
    data = batch()
    assert torch.equal(RandIntensityBatchd("image")(data)["image"], data["image"])


def test_noise_has_at_most_the_stated_deviation():
    torch.manual_seed(0)
    zeros = {"image": torch.zeros(64, 1, 32, 32)}
    spread = RandIntensityBatchd("image", noise=0.2)(zeros)["image"].flatten(1).std(1)
    assert spread.max() < 0.22
    assert 0.07 < spread.mean() < 0.13  # uniform between 0 and 0.2


def test_noise_is_normal_differs_from_batch_to_batch_and_repeats_nothing_within_one():
    torch.manual_seed(0)
    first, second = gaussian(torch.zeros(64, 1, 64, 64)), gaussian(torch.zeros(64, 1, 64, 64))
    assert stats.kstest(first.flatten()[::16].numpy(), "norm").pvalue > 0.001
    assert not torch.equal(first, second)
    rows = first.flatten(1)
    assert len(torch.unique(rows, dim=0)) == 64
    assert (
        torch.corrcoef(rows) - torch.eye(64)
    ).abs().max() < 0.1  # 4,096 numbers each: 6 deviations of chance


def test_a_batch_that_is_too_large_for_the_row_of_noise_gets_numbers_of_its_own():
    torch.manual_seed(0)
    assert abs(gaussian(torch.zeros(2**23)).std().item() - 1) < 0.01


def test_smooth_fields_are_torchs_bicubic_interpolation():
    coarse = torch.randn(3, 2, 4, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(coarse, (40, 33), mode="bicubic", align_corners=True)
    assert torch.allclose(smooth(coarse, 40, 33), expected, atol=1e-5)
    assert smooth(coarse[:0], 40, 33).shape == (0, 2, 40, 33)


def test_drawn_numbers_stay_in_range_and_half_of_them_take_the_other_value():
    torch.manual_seed(0)
    values = uniform(2.0, 3.0, 4000, prob=0.5, otherwise=1.0)
    drawn = values[values != 1.0]
    assert drawn.min() >= 2.0
    assert drawn.max() <= 3.0
    assert abs(len(drawn) / 4000 - 0.5) < 0.05


def test_halving_the_contrast_is_as_likely_as_doubling_it():
    torch.manual_seed(0)
    gamma = RandIntensityBatchd("image", 1.0, gamma=(0.25, 4.0)).draw(4000)[0]
    assert gamma.min() >= 0.25
    assert gamma.max() <= 4.0
    assert abs((gamma < 1).float().mean() - 0.5) < 0.03
    assert abs((gamma < 0.5).float().mean() - 0.25) < 0.03  # a quarter of the range in logarithms


def test_shading_multiplies_all_channels_of_a_sample_by_one_smooth_field():
    torch.manual_seed(0)
    image = torch.rand(4, 3, 40, 60) + 0.1
    field = RandShadingBatchd("image", 1.0, magnitude=0.5)({"image": image})["image"] / image
    assert torch.allclose(field, field[:, :1].expand_as(field), atol=1e-5)
    assert field.std() > 0.05
    steps = torch.cat([field.diff(dim=-1).abs().flatten(), field.diff(dim=-2).abs().flatten()])
    assert steps.max() < 0.25 * field.max()


def test_shading_has_the_stated_deviation_where_it_is_drawn_and_leaves_the_other_samples_alone():
    torch.manual_seed(0)
    corner = RandShadingBatchd("image", 0.5, magnitude=1.0).draw(4000, 8, 8)[:, 0, 0, 0].log()
    assert abs((corner == 0).float().mean() - 0.5) < 0.03
    drawn = corner[corner != 0]
    assert abs(drawn.std() - 3**-0.5) < 0.03  # the root of the mean square of a uniform number
