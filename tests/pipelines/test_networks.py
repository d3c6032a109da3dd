"""A U-Net whose logits come from a head of their own."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from monai.networks.nets import UNet

from pipelines.networks import HeadedUNet

SMALL = {"in_channels": 3, "channels": [4, 8], "strides": [2], "num_res_units": 1, "norm": "BATCH"}


@pytest.mark.parametrize("dimensions", [2, 3])
def test_logits_have_the_size_of_the_input_and_the_channels_asked_for(dimensions):
    network = HeadedUNet(out_channels=2, features=5, spatial_dims=dimensions, **SMALL)
    assert network(torch.zeros(2, 3, *[8] * dimensions)).shape == (2, 2, *[8] * dimensions)


def test_the_unet_is_monais_and_the_head_is_linear():
    torch.manual_seed(0)
    network = HeadedUNet(features=5, **SMALL).eval()
    image = torch.rand(1, 3, 8, 8)
    features = network.unet(image)
    weight, bias = network.head.weight[0, :, 0, 0], network.head.bias
    expected = sum(w * f for w, f in zip(weight, features[0], strict=True)) + bias
    assert isinstance(network.unet, UNet)
    assert torch.allclose(network(image)[0, 0], expected, atol=1e-6)


def test_dice_loss_falls_further_in_a_few_steps_than_without_a_head():
    def loss_after(network: torch.nn.Module) -> float:
        optimizer, loss = torch.optim.Adam(network.parameters(), 1e-2), DiceLoss(sigmoid=True, batch=True)
        for _ in range(40):
            optimizer.zero_grad()
            value = loss(network(image), label)
            value.backward()
            optimizer.step()
        return value.item()

    torch.manual_seed(0)
    label = torch.zeros(4, 1, 16, 16)
    label[:, :, 4:8, 6:11] = 1
    image = label + 0.3 * torch.rand(4, 3, 16, 16)
    torch.manual_seed(0)
    with_head = loss_after(HeadedUNet(features=5, **SMALL))
    assert with_head < loss_after(UNet(spatial_dims=2, out_channels=1, **SMALL)) / 2
