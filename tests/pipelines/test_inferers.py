from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.errors import UserError
from pipelines.inferers import PlanesInferer

VOLUME = torch.rand(2, 1, 6, 5, 4, generator=torch.Generator().manual_seed(0))


def middle(slices):
    return torch.logit(slices[:, slices.shape[1] // 2, None])


def lopsided(channels):
    """A network that tells left from right, up from down and one channel from another."""
    torch.manual_seed(1)
    return nn.Conv2d(channels, 1, 3, padding=1).eval()


@pytest.mark.parametrize("planes", [[0], [1], [2], [0, 1, 2]])
@pytest.mark.parametrize("flips", [[[]], [[], [0], [1, 2]], [[0, 1, 2]]])
def test_network_that_returns_its_middle_slice_returns_the_volume(planes, flips):
    inferer = PlanesInferer(planes, [-1, 0, 1], flips, batch_size=3)
    variants = inferer.variants(VOLUME, middle)
    assert len(variants) == len(planes) * len(flips)
    for variant in variants:
        torch.testing.assert_close(variant, VOLUME)
    torch.testing.assert_close(torch.sigmoid(inferer(VOLUME, middle)), VOLUME)


@pytest.mark.parametrize("plane", [0, 1, 2])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_volume_is_a_plain_loop_over_slices_with_their_neighbours(plane, batch_size):
    network, offsets = lopsided(3), (-2, 0, 1)
    volume = VOLUME[:1].numpy()[0, 0]
    wanted = np.empty_like(volume)
    with torch.no_grad():
        for k in range(volume.shape[plane]):
            near = [min(max(k + offset, 0), volume.shape[plane] - 1) for offset in offsets]
            stack = torch.from_numpy(np.stack([volume.take(n, plane) for n in near]))
            answer = torch.sigmoid(network(stack[None]))[0, 0].numpy()
            wanted[tuple(k if axis == plane else slice(None) for axis in range(3))] = answer
        result = PlanesInferer([plane], offsets, batch_size=batch_size).variants(VOLUME[:1], network)
    np.testing.assert_allclose(result[0][0, 0].numpy(), wanted, rtol=1e-5)


def test_flips_are_done_before_the_network_and_undone_after_it():
    network = lopsided(1)
    with torch.no_grad():
        (plain,) = PlanesInferer([2]).variants(VOLUME.flip(2, 4), network)
        (flipped,) = PlanesInferer([2], flips=[[0, 2]]).variants(VOLUME, network)
        (unflipped,) = PlanesInferer([2]).variants(VOLUME, network)
    torch.testing.assert_close(flipped, plain.flip(2, 4))
    assert not torch.allclose(flipped, unflipped)


def test_all_flips_averaged_make_an_answer_that_no_flip_changes():
    every = [list(axes) for n in range(4) for axes in itertools.combinations(range(3), n)]
    inferer, network = PlanesInferer([0, 1, 2], flips=every), lopsided(1)
    with torch.no_grad():
        once, turned = inferer(VOLUME, network), inferer(VOLUME.flip(3), network).flip(3)
    torch.testing.assert_close(once, turned)


def test_average_is_of_probabilities_not_of_logits():
    one, other = torch.full((1, 1, 1, 1, 1), 0.99), torch.full((1, 1, 1, 1, 1), 0.2)
    # (0.99 + 0.2) / 2 = 0.595, whose logit is log(0.595 / 0.405)
    assert PlanesInferer.average([one, other]).item() == pytest.approx(np.log(0.595 / 0.405), rel=1e-4)
    assert PlanesInferer.average([one * 0]).item() == pytest.approx(np.log(1e-6), rel=1e-3)  # finite


@pytest.mark.parametrize("flips", [[], None, [0], [[3]], [["x"]], [[0], 1]])
def test_flips_that_are_no_lists_of_axes_are_refused(flips):
    with pytest.raises(UserError, match="flips must be a list of lists of axes from 0 to 2"):
        PlanesInferer(flips=flips)
