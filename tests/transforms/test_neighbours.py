"""Neighbouring slices as channels."""

from __future__ import annotations

import pytest
import torch

from transforms.neighbours import neighbour_slices, slice_with_neighbours

RAMP = torch.arange(5.0).expand(1, 1, 2, 3, 5)  # the value of a voxel is its slice number


def test_each_channel_is_the_volume_shifted_by_its_offset_with_the_ends_repeated():
    channels = neighbour_slices(RAMP, (-1, 0, 1))
    assert channels.shape == (1, 3, 2, 3, 5)
    assert channels[0, :, 0, 0].tolist() == [[0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 4]]


def test_offsets_may_skip_slices_and_reach_beyond_both_ends():
    assert neighbour_slices(RAMP, (-9, -2, 0, 2, 9))[0, :, 0, 0, 2].tolist() == [0, 0, 2, 4, 4]


def test_one_offset_keeps_the_volume():
    assert torch.equal(neighbour_slices(RAMP, (0,)), RAMP)


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_a_single_slice_is_that_slice_of_the_whole_volume_in_every_plane(plane):
    volume = torch.rand(1, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    whole = neighbour_slices(volume[None], (-2, 0, 1), plane)[0]
    for index in range(volume.shape[plane + 1]):
        assert torch.equal(
            slice_with_neighbours(volume, index, (-2, 0, 1), plane), whole.select(plane + 1, index)
        )


def test_no_offset_is_refused():
    with pytest.raises(ValueError, match="at least one slice"):
        neighbour_slices(RAMP, ())


def test_a_volume_with_channels_is_refused():
    with pytest.raises(ValueError, match=r"shape \(B, 1, X, Y, Z\), got \(1, 2, 2, 3, 5\)"):
        neighbour_slices(RAMP.expand(1, 2, 2, 3, 5), (0,))
