"""A network that does not fit the slices is refused before a training begins."""

from __future__ import annotations

import pytest
from monai.networks.nets import UNet

from pipelines.checks.network import require_fitting
from pipelines.errors import UserError


def unet(inputs: int = 3, outputs: int = 1) -> UNet:
    return UNet(2, inputs, outputs, channels=[2, 4, 4], strides=[2, 2])


def test_a_network_that_fits_every_plane_is_taken():
    require_fitting(unet(), 3, [16, 12, 8], [0, 1, 2])


@pytest.mark.parametrize(
    ("network", "channels", "patch_size", "message"),
    [
        (
            unet(),
            3,
            [16, 12, 9],
            r"does not take slices of 12 x 9 pixels.*\n.*product of the network's strides",
        ),
        (unet(), 5, [16, 12, 8], r"with 5 channels: .*\n.*in_channels must be the number of slice_offsets"),
        (
            unet(outputs=2),
            3,
            [16, 12, 8],
            r"one channel of that size, got \(2, 12, 8\);\nset out_channels to 1",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_answered_with_what_to_change(network, channels, patch_size, message):
    with pytest.raises(UserError, match=message) as caught:
        require_fitting(network, channels, patch_size, [0, 1, 2])
    assert len(str(caught.value).splitlines()) <= 3


def test_a_plane_that_is_not_used_may_have_any_size():
    require_fitting(unet(), 3, [16, 12, 9], [2])
