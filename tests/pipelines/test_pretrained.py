from __future__ import annotations

import pytest
import torch
from monai.networks.nets import resnet18
from torch import nn

from pipelines.errors import UserError
from pipelines.pretrained import start_from


def make(channels=1, classes=1):
    return resnet18(
        pretrained=False,
        spatial_dims=2,
        n_input_channels=channels,
        conv1_t_stride=2,
        bias_downsample=False,
        num_classes=classes,
    ).eval()


@pytest.fixture(scope="module")
def photographs():
    """What torchvision's file holds: three channels and a thousand classes."""
    torch.manual_seed(7)
    return make(channels=3, classes=1000)


@pytest.fixture(scope="module")
def file(photographs, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(photographs.state_dict(), path)
    return path


@torch.inference_mode()
def test_a_grey_image_gives_the_features_of_a_photograph_with_three_equal_channels(photographs, file):
    network = start_from(make(), file)
    image = torch.rand(2, 1, 64, 64)
    features = [nn.Sequential(*list(net.children())[:-1]) for net in (network, photographs)]
    torch.testing.assert_close(
        features[0](image), features[1](image.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4
    )


def test_the_names_are_torchvisions_and_the_last_layer_stays_new(file):
    # of the 122 tensors that torchvision 0.20 documents for resnet18, by the pattern of its names
    names = set(make().state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer2.0.downsample.0.weight", "layer4.1.bn2.bias"} <= names
    assert len(names) == 122
    torch.manual_seed(3)
    fresh = make()
    before = fresh.fc.weight.clone()
    assert torch.equal(start_from(fresh, file).fc.weight, before)


@pytest.mark.parametrize(
    "wrap", [lambda s: {"state_dict": s}, lambda s: {"model": {f"module.{k}": v for k, v in s.items()}}]
)
def test_wrapped_files_are_read_too(photographs, tmp_path, wrap):
    torch.save(wrap(photographs.state_dict()), tmp_path / "a.pth")
    network = start_from(make(), tmp_path / "a.pth")
    assert torch.equal(network.layer1[0].conv1.weight, photographs.layer1[0].conv1.weight)


def test_files_without_batch_counters_and_of_one_channel_fit(tmp_path, photographs):
    state = {k: v for k, v in photographs.state_dict().items() if not k.endswith("num_batches_tracked")}
    state["conv1.weight"] = torch.full((64, 1, 7, 7), 2.0)
    torch.save(state, tmp_path / "a.pth")
    assert (start_from(make(), tmp_path / "a.pth").conv1.weight == 2).all()


def test_no_file_and_a_run_that_goes_on_change_nothing(tmp_path):
    network = make()
    before = network.conv1.weight.clone()
    start_from(network, None)
    (tmp_path / "last.pt").touch()
    start_from(network, tmp_path / "gone.pth", tmp_path)
    assert torch.equal(network.conv1.weight, before)


def test_another_architecture_a_whole_module_and_no_weights_are_refused(tmp_path, photographs):
    state = photographs.state_dict()
    torch.save({**state, "layer3.2.conv1.weight": torch.zeros(1)}, tmp_path / "deeper.pth")
    with pytest.raises(
        UserError, match=r"another architecture: 'layer3\.2\.conv1\.weight' should be nothing"
    ):
        start_from(make(), tmp_path / "deeper.pth")
    torch.save({**state, "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}, tmp_path / "wide.pth")
    with pytest.raises(UserError, match=r"should be \(64, 64, 3, 3\), is \(64, 64, 1, 1\)"):
        start_from(make(), tmp_path / "wide.pth")
    torch.save(nn.Linear(1, 1), tmp_path / "module.pth")
    with pytest.raises(UserError, match="holds more than tensors"):
        start_from(make(), tmp_path / "module.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds no network weights"):
        start_from(make(), tmp_path / "list.pth")
    with pytest.raises(UserError, match="There is no checkpoint"):
        start_from(make(), tmp_path / "none.pth")
