"""Neighbouring slices as channels."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from transforms.neighbours import NeighbourSlicesd, neighbour_slices

RAMP = torch.arange(5.0).expand(1, 2, 3, 5)  # the value of a voxel is its slice number


def test_each_channel_is_the_volume_shifted_by_its_offset_with_the_ends_repeated():
    channels = neighbour_slices(RAMP, (-1, 0, 1))
    assert channels.shape == (3, 2, 3, 5)
    assert channels[:, 0, 0].tolist() == [[0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 4]]


def test_offsets_may_skip_slices():
    assert neighbour_slices(RAMP, (-4, -2, 0, 2, 4))[:, 0, 0, 2].tolist() == [0, 0, 2, 4, 4]


def test_one_offset_keeps_the_volume():
    assert torch.equal(neighbour_slices(RAMP, (0,)), RAMP)


def test_offsets_on_one_side_only_look_one_way():
    assert neighbour_slices(RAMP, (1, 2))[:, 0, 0].tolist() == [[1, 2, 3, 4, 4], [2, 3, 4, 4, 4]]


def test_channels_share_one_copy_of_the_volume():
    channels = neighbour_slices(RAMP, (-2, -1, 0, 1, 2))
    assert channels.untyped_storage().nbytes() == 2 * 3 * (5 + 4) * 4


@pytest.mark.parametrize("offsets", [(0, 2, 3), (1, 0), (0, 0)])
def test_uneven_or_descending_offsets_are_refused(offsets):
    with pytest.raises(ValueError, match="ascending and evenly spaced"):
        neighbour_slices(RAMP, offsets)


def test_a_volume_with_channels_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, X, Y, Z\), got \(2, 2, 3, 5\)"):
        neighbour_slices(RAMP.expand(2, 2, 3, 5), (0,))


def test_the_dictionary_form_keeps_the_affine_and_leaves_other_keys_alone():
    affine = torch.diag(torch.tensor([0.5, 0.5, 2.0, 1.0], dtype=torch.float64))
    sample = {"image": MetaTensor(RAMP.clone(), affine=affine), "label": RAMP}
    result = NeighbourSlicesd("image", (-1, 0, 1))(sample)
    assert torch.equal(result["image"].affine, affine)
    assert result["label"] is RAMP
    assert sample["image"].shape == (1, 2, 3, 5)
