"""Other engines give PyTorch's answers: of each bundle's kind of network, and of each bundle's inference.yaml."""

from __future__ import annotations

import importlib.util
import json

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from monai.networks.nets import ResNet

from pipelines.activation import ActivationInferer
from pipelines.engines import ENGINES, with_engine
from pipelines.errors import UserError
from pipelines.heatmaps import EdgeResNet
from pipelines.launch import run_bundle
from pipelines.networks import HeadedUNet
from pipelines.phantoms.xray import write_pneumonia_phantom

OTHERS = [engine for engine in ENGINES if engine != "pytorch"]
RESNET = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 4, 8, 8], "spatial_dims": 2}
RESNET |= {"n_input_channels": 1, "num_classes": 1}
UNET = {"in_channels": 3, "features": 4, "channels": [4, 8, 8], "strides": [2, 2], "num_res_units": 1}
UNET |= {"act": ["LEAKYRELU", {"negative_slope": 0.2, "inplace": True}], "norm": "BATCH"}
NETWORKS = {
    # the U-Net meets slices of three planes, the others images of one size
    "atrium": (lambda: HeadedUNet(**UNET), [(5, 3, 32, 24), (5, 3, 24, 16), (2, 3, 16, 32), (1, 3, 32, 24)]),
    "pneumonia": (lambda: ResNet(**RESNET), [(4, 1, 64, 64), (1, 1, 64, 64), (3, 1, 64, 64)]),
    "cardiac": (
        lambda: EdgeResNet("xyxyxx", widen_factor=0.0625),
        [(4, 1, 64, 64), (1, 1, 64, 64), (3, 1, 64, 64)],
    ),
}


def made(build):
    """A network with norms that have seen data: untrained ones change nothing."""
    torch.manual_seed(0)
    network = build()
    for _ in range(3):
        network(torch.rand(4, 3 if isinstance(network, HeadedUNet) else 1, 64, 64))
    return network.eval().to(memory_format=torch.channels_last)


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_an_engine_answers_as_pytorch_for_every_batch(name, engine):
    build, shapes = NETWORKS[name]
    network = made(build)
    other = with_engine(network, engine)
    for shape in shapes:
        images = torch.rand(shape).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(other(images), network(images), rtol=1e-4, atol=1e-4)
    assert not network.training


@pytest.mark.parametrize("engine", OTHERS)
@torch.inference_mode()
def test_a_heat_map_is_the_same_by_every_engine(engine):
    network, images = made(lambda: ResNet(**RESNET)), torch.rand(3, 1, 64, 64)
    inferer = ActivationInferer(flips=[[], [1]])
    expected = inferer(images, network)
    maps = inferer(images, with_engine(network, engine))
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)
    assert maps.shape == (3, 1, 4, 4)
    torch.testing.assert_close(inferer(images, network), expected)  # and PyTorch's own stays what it was


def test_pytorch_is_the_network_itself():
    network = ResNet(**RESNET)
    assert with_engine(network) is network


def test_an_engine_that_is_not_installed_is_answered_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r'engine onnxruntime needs onnxruntime and onnx.*\n.*"\.\[onnxruntime\]"'
    ):
        with_engine(ResNet(**RESNET), "onnxruntime")
    with pytest.raises(UserError, match=r'engine openvino needs openvino, .*\n.*"\.\[openvino\]"'):
        with_engine(ResNet(**RESNET), "openvino")


def test_an_engine_for_processors_is_refused_on_another_device():
    with pytest.raises(UserError, match="device is cuda: give --device cpu too"):
        with_engine(ResNet(**RESNET), "openvino", "cuda")
    with pytest.raises(UserError, match="pytorch, openvino, onnxruntime, got 'tensorrt'"):
        with_engine(ResNet(**RESNET), "tensorrt")


def predict(bundle, folder, source, network, settings):
    """Run a bundle's inference.yaml with each engine; return the folders of the results."""
    run = folder / "run"
    run.mkdir()
    definition = {
        "_target_": f"{type(network).__module__}.{type(network).__name__}",
        **settings.pop("network"),
    }
    config = {"bundle_root": f"bundles/{bundle}", "network_def": definition, **settings}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(network.state_dict(), run / "model.pt")
    for engine in ENGINES:
        given = {"dataset_dir": [str(source)], "output_dir": str(folder / engine), "ckpt_path": str(run)}
        run_bundle(f"bundles/{bundle}/inference.yaml", **given, device="cpu", engine=engine)
    return [folder / engine for engine in ENGINES]


@pytest.fixture
def here(monkeypatch, untouched):
    monkeypatch.chdir(ROOT)


def test_masks_of_a_volume_are_the_same_by_every_engine(here, phantom, tmp_path):
    network = made(lambda: HeadedUNet(**UNET))
    with torch.no_grad():  # so that about half of the voxels are marked
        network.head.bias -= network(torch.rand(4, 3, 64, 64)).median()
    settings = {"pixdim": 8.0, "planes": [0, 1, 2], "slice_offsets": [-1, 0, 1], "network": UNET.copy()}
    volume = next((phantom / "imagesTr").iterdir())
    first, *others = predict("atrium", tmp_path, volume, network, settings)
    case = volume.name.removesuffix(".nii.gz")
    expected = np.asarray(nib.load(first / case / "mask.nii.gz").dataobj) > 0
    assert 0.01 < expected.mean() < 0.99
    for folder in others:
        mask = np.asarray(nib.load(folder / case / "mask.nii.gz").dataobj) > 0
        assert 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) > 0.999


def test_probabilities_of_xrays_are_the_same_by_every_engine(here, tmp_path):
    write_pneumonia_phantom(tmp_path / "rsna", cases=3, size=64)
    network = made(lambda: ResNet(**RESNET))
    settings = {"size": 64, "network": RESNET.copy()}
    images = tmp_path / "rsna" / "stage_2_train_images"
    first, *others = predict("pneumonia", tmp_path, images, network, settings)
    for path in images.iterdir():
        expected = json.loads((first / path.stem / "result.json").read_text())
        for folder in others:
            found = json.loads((folder / path.stem / "result.json").read_text())
            assert abs(found["result"]["probability"] - expected["result"]["probability"]) < 1e-3
            assert found["config_sha256"] == expected["config_sha256"]


def test_boxes_of_hearts_are_the_same_by_every_engine(here, tmp_path):
    write_pneumonia_phantom(tmp_path / "rsna", cases=3, size=64)
    network = made(lambda: EdgeResNet("xyxyxx", widen_factor=0.0625))
    settings = {"size": 64, "network": {"axes": "xyxyxx", "widen_factor": 0.0625}}
    images = tmp_path / "rsna" / "stage_2_train_images"
    first, *others = predict("cardiac", tmp_path, images, network, settings)
    for path in images.iterdir():
        expected = json.loads((first / path.stem / "result.json").read_text())["result"]
        for folder in others:
            found = json.loads((folder / path.stem / "result.json").read_text())["result"]
            np.testing.assert_allclose(found["box_xyxy_px"], expected["box_xyxy_px"], atol=0.02)
