from __future__ import annotations

import torch
from monai.data import MetaTensor

from pipelines.batches import PrepareBatch


def batch():
    image = MetaTensor(torch.rand(2, 3, 8, 6), meta={"patient": "Jane"})
    return {"image": image, "label": torch.ones(2, 1, 8, 6), "case": ["a", "b"]}


def test_batch_is_transformed_as_a_whole_and_laid_out_channels_last():
    seen = {}

    def transform(data):
        seen.update(data)
        return {"image": data["image"] + 1, "label": data["label"] * 0}

    given = batch()
    image, label = PrepareBatch(transform)(given, torch.device("cpu"), non_blocking=True)
    assert set(seen) == {"image", "label"}
    torch.testing.assert_close(image, given["image"].as_tensor() + 1)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert label.shape == (2, 1, 8, 6)
    assert label.sum() == 0


def test_metadata_is_left_behind():
    image, label = PrepareBatch(lambda data: data)(batch(), torch.device("cpu"))
    assert type(image) is torch.Tensor
    assert type(label) is torch.Tensor


def test_extra_arguments_reach_the_move_to_the_device():
    image, _ = PrepareBatch(lambda data: data)(batch(), torch.device("cpu"), dtype=torch.float64)
    assert image.dtype == torch.float64
