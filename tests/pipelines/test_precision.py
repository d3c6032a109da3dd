"""The number format that a network computes in."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from pipelines import precision
from pipelines.precision import AutocastInferer


class Spy(nn.Module):
    """A convolution that remembers the type of what it gave."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, inputs):
        answer = self.layer(inputs)
        self.seen = answer.dtype
        return answer


@pytest.mark.parametrize(("chosen", "inside"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_network_computes_in_the_chosen_format_and_logits_and_gradients_are_float32(chosen, inside):
    network = Spy()
    logits = AutocastInferer(SimpleInferer(), chosen)(torch.rand(2, 1, 4, 4), network)
    logits.sum().backward()
    assert network.seen == inside
    assert logits.dtype == network.layer.weight.grad.dtype == torch.float32


def test_elsewhere_than_on_a_cpu_the_format_is_left_to_amp():
    network = Spy().to("meta")
    AutocastInferer(SimpleInferer(), "bfloat16")(torch.rand(2, 1, 4, 4, device="meta"), network)
    assert network.seen == torch.float32


@pytest.mark.parametrize(("able", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_without_a_choice_the_format_is_what_the_processor_is_fast_at(able, expected, monkeypatch):
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda: able)
    assert AutocastInferer(SimpleInferer()).precision == expected


@pytest.mark.parametrize(
    ("found", "able"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False)]
)
def test_the_processor_is_asked_for_its_instructions(found, able, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert precision.computes_in_bfloat16() is able
