"""The number format that a network computes in while it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

PRECISIONS = ("float32", "bfloat16")


def computes_in_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 (AVX512-BF16 or AMX); without, it is many times slower."""
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.10
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


class AutocastInferer(Inferer):
    """Another inferer whose network computes convolutions in bfloat16 on a processor that can; logits stay float32.

    Weights, losses, averages and optimiser states are float32 throughout. On a GPU this changes nothing: there MONAI's
    ``amp`` does the same.

    Args:
        inferer: that runs the network.
        precision: "float32" or "bfloat16"; None is bfloat16 where :func:`computes_in_bfloat16`.
    """

    def __init__(self, inferer: Inferer, precision: str | None = None) -> None:
        super().__init__()
        self.inferer = inferer
        self.precision = precision or ("bfloat16" if computes_in_bfloat16() else "float32")

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return what the other inferer gives for ``inputs``, with ``network`` in this precision."""
        if self.precision == "float32" or inputs.device.type != "cpu":
            return self.inferer(inputs, network, *args, **kwargs)

        def lower(*values: Any, **options: Any) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                answer = network(*values, **options)
            return answer.float()

        return self.inferer(inputs, lower, *args, **kwargs)
