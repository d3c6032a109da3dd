from __future__ import annotations

import pytest
import torch
from monai.networks.nets import ResNet
from monai.visualize import CAM

from pipelines.activation import ActivationInferer, logit
from pipelines.errors import UserError


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = ResNet(
        "basic",
        [1, 1, 1, 1],
        [4, 4, 8, 8],
        spatial_dims=2,
        n_input_channels=1,
        conv1_t_stride=2,
        num_classes=1,
    )
    torch.nn.init.normal_(network.fc.bias)
    return network.eval()


@pytest.fixture
def images():
    return torch.rand(3, 1, 64, 96, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_the_mean_of_a_map_is_the_networks_logit(network, images):
    maps = ActivationInferer()(images, network)
    assert maps.shape == (3, 1, 2, 3)
    torch.testing.assert_close(logit(maps), network(images))


def test_a_map_is_monais_class_activation_map(network, images):
    maps = ActivationInferer()(images, network)
    for image, ours in zip(images, maps, strict=True):
        theirs = CAM(network, "layer4", "fc").compute_map(image[None])
        torch.testing.assert_close(ours[None], theirs)


@torch.inference_mode()
def test_variants_are_flipped_back_and_averaged(network, images):
    plain = ActivationInferer()
    mirrored = plain(images.flip(3), network).flip(3)
    both = ActivationInferer(flips=[[], [1]])(images, network)
    torch.testing.assert_close(both, (plain(images, network) + mirrored) / 2)


def test_no_hook_is_left_behind(network, images):
    ActivationInferer()(images, network)
    assert not network.layer4._forward_hooks


def test_a_network_without_such_layers_is_refused(images):
    with pytest.raises(UserError, match="a heat map needs a network with 'layer4' and a linear 'fc'"):
        ActivationInferer()(images, torch.nn.Conv2d(1, 1, 1))
