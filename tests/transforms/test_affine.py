"""MONAI's random affine transform on a whole batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Affine, AffineGrid, RandAffined

from transforms.affine import BatchAffined, matrices_2d, resampled, sampling_grid, to_grid


def rand_affined(**options):
    options = {
        "prob": 1.0,
        "rotate_range": 0.7854,
        "scale_range": [0.15, 0.15],
        "translate_range": [3, 3],
        **options,
    }
    return RandAffined(["image", "label"], mode=["bilinear", "nearest"], padding_mode="zeros", **options)


def batch(size=3, height=20, width=28):
    image = torch.rand(size, 2, height, width, generator=torch.Generator().manual_seed(0))
    return {"image": image, "label": (image[:, :1] > 0.5).float()}


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-3, 3),
    scale=st.tuples(st.floats(0.7, 1.4), st.floats(0.7, 1.4)),
    shift=st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
)
def test_a_sample_of_the_batch_is_what_monai_makes_of_the_image(angle, scale, shift):
    image = batch(1)["image"]
    affine = Affine(angle, None, shift, scale, padding_mode="zeros", image_only=True)
    alone = affine(image[0]).as_tensor()
    # the lazy grid gives the matrix alone
    matrix = torch.as_tensor(affine.affine_grid([20, 28], lazy=True)[1], dtype=torch.float32)[None]
    grid = sampling_grid(to_grid(matrix, (20, 28)), (20, 28))
    assert torch.allclose(resampled(image, torch.tensor([0]), grid)[0], alone, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-3, 3),
    pairs=st.tuples(
        *[st.tuples(st.floats(low, high), st.floats(low, high)) for low, high in ((-1, 1), (-9, 9), (0.5, 2))]
    ),
)
def test_a_matrix_is_the_one_that_monai_makes_of_the_same_parameters(angle, pairs):
    shear, shift, scale = pairs
    theirs = AffineGrid(angle, shear, shift, scale, lazy=True)([20, 28])[1]
    ours = matrices_2d(torch.tensor([angle]), *(torch.tensor(pair)[:, None] for pair in pairs))
    assert torch.allclose(ours[0], torch.as_tensor(theirs, dtype=torch.float32), atol=1e-4)


def test_the_grid_is_torchs_affine_grid():
    matrices = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.affine_grid(matrices, [3, 1, 20, 28], align_corners=False)
    assert torch.allclose(sampling_grid(matrices, (20, 28)), expected, atol=1e-5)


def test_every_sample_of_a_batch_is_moved_in_its_own_way_and_image_and_label_together():
    data = {"image": batch()["label"].expand(3, 2, 20, 28).clone(), "label": batch()["label"]}
    both = RandAffined(
        ["image", "label"], prob=1.0, rotate_range=1.0, mode=["nearest", "nearest"], padding_mode="zeros"
    )
    result = BatchAffined(both)(data)
    assert torch.equal(result["image"][:, :1], result["label"])
    alike = [torch.equal(result["label"][i], result["label"][j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert not any(alike)


@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_what_is_drawn_is_distributed_as_in_monai(shear):
    """The matrices of 4,000 samples against those that MONAI itself draws one at a time: mean and spread agree."""
    torch.manual_seed(0)
    options = {"shear_range": [shear, shear]} if shear else {}
    ours = BatchAffined(rand_affined(**options)).draw(4000).numpy()
    alone = rand_affined(**options).set_random_state(seed=1)
    grid = alone.rand_affine.rand_affine_grid
    theirs = []
    for _ in range(4000):
        grid([20, 28], lazy=True)
        theirs.append(np.asarray(grid.get_transformation_matrix()))
    theirs = np.stack(theirs)
    # four standard errors of a difference, of numbers that spread by up to 0.6, and of shifts that spread by 1.7
    for part, most in ((np.s_[:2, :2], 0.05), (np.s_[:2, 2], 0.15)):
        assert np.allclose(ours.mean(0)[part], theirs.mean(0)[part], atol=most)
        assert np.allclose(ours.std(0)[part], theirs.std(0)[part], atol=most / 1.4)


def test_angles_reach_both_ends_of_their_range():
    torch.manual_seed(0)
    ours = BatchAffined(rand_affined()).draw(4000).numpy()
    angles = np.arctan2(ours[:, 1, 0], ours[:, 1, 1])
    assert angles.min() < -0.75
    assert angles.max() > 0.75
    assert (
        abs(angles).max() < 0.95
    )  # the two scales differ, which turns a diagonal a little further than 45 degrees


def test_the_same_generator_state_draws_the_same():
    transform = BatchAffined(rand_affined())
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(transform(batch())["image"])
    assert torch.equal(*results)
    assert not torch.equal(results[0], transform(batch())["image"])


def test_a_sample_that_the_chance_spares_stays_as_it_is():
    torch.manual_seed(0)
    before = batch(40)
    after = BatchAffined(rand_affined(prob=0.5))(before)["image"]
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(after, before["image"], strict=True)]
    assert 8 < sum(same) < 32


def test_a_transform_that_changes_the_size_is_refused():
    with pytest.raises(ValueError, match="leave spatial_size out"):
        BatchAffined(rand_affined(spatial_size=[8, 8]))
