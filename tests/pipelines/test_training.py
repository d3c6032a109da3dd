"""The parts of a training that stand alone; tests/bundles runs whole ones."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer

from pipelines.precision import AutocastInferer
from pipelines.training import batch_loss, keep_memory_of, stack_outputs


def test_the_loss_of_a_batch_is_free_of_its_graph():
    loss = batch_loss({"loss": torch.ones(1, requires_grad=True).sum() * 2})
    assert loss == 2
    assert not loss.requires_grad


def test_decollated_outputs_become_batches_of_plain_tensors():
    outputs = [
        {"logits": MetaTensor(torch.full((1, 2, 2, 2), k)), "label": torch.full((1, 2, 2, 2), -k)}
        for k in (1.0, 2.0)
    ]
    logits, label = stack_outputs(outputs)
    assert logits.shape == label.shape == (2, 1, 2, 2, 2)
    assert type(logits) is torch.Tensor
    assert logits[:, 0, 0, 0, 0].tolist() == [1, 2]
    assert label[:, 0, 0, 0, 0].tolist() == [-1, -2]


@pytest.mark.parametrize(("precision", "kept"), [("float32", 1), ("bfloat16", 0)])
def test_memory_is_kept_where_a_training_gains_by_it(monkeypatch, precision, kept):
    calls = []
    monkeypatch.setattr("pipelines.training.keep_freed_memory", lambda: calls.append(1))
    keep_memory_of(SimpleNamespace(inferer=AutocastInferer(SimpleInferer(), precision)))
    assert len(calls) == kept
