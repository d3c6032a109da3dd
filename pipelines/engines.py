"""Other engines than PyTorch for a network in use on a processor: the same weights and answers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pipelines.errors import UserError

PYTORCH = "pytorch"
Run = Callable[[torch.Tensor], torch.Tensor]


def with_engine(network: nn.Module, engine: str = PYTORCH, device: str | torch.device = "cpu") -> nn.Module:
    """Return what answers as ``network`` does and is computed by ``engine``.

    Args:
        network: in evaluation mode, with one input (B, C, H, W) and one output.
        engine: "pytorch", which is ``network`` itself, "openvino" or "onnxruntime".
        device: where the network is.

    Raises:
        UserError: the engine is unknown or not installed, or the device is no processor.
    """
    require_engine(engine)
    if engine == PYTORCH:
        return network
    if torch.device(device).type != "cpu":
        raise UserError(
            f"engine {engine} computes on the processor, and device is {device}: give --device cpu too."
        )
    return EngineNetwork(network, engine)


class EngineNetwork(nn.Module):
    """A network in another engine, translated at the first call: for any batch, and for images of any size where the
    network has no constants that follow from the size (the U-Net and the ResNet, but not ``EdgeResNet``).

    Args:
        network: what is computed.
        engine: see :func:`with_engine`.
    """

    def __init__(self, network: nn.Module, engine: str) -> None:
        super().__init__()
        self.network, self.engine = network, engine
        self._run: Run | None = None
        self.eval()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the network's answer to ``inputs`` (B, C, H, W) float32, a plain tensor."""
        plain = inputs.as_subclass(torch.Tensor).float()
        if self._run is None:
            with torch.inference_mode(mode=False), torch.no_grad():  # tensors of inference are not traced
                self._run = _COMPILE[self.engine](self.network, torch.rand(2, *plain.shape[1:]))
        return self._run(plain.contiguous())


def same_engine(network: nn.Module, build: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return what ``build`` makes of the PyTorch network behind ``network``, computed by the engine of ``network``."""
    if isinstance(network, EngineNetwork):
        return EngineNetwork(build(network.network), network.engine)
    return build(network).train(network.training)


def _openvino(network: nn.Module, example: torch.Tensor) -> Run:
    import openvino

    with _quiet_tracing():
        model = openvino.convert_model(network, example_input=example)
    model.reshape([-1, example.shape[1], -1, -1])
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bfloat16 where the processor has it
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return lambda inputs: torch.from_numpy(compiled(inputs.numpy())[0])


def _onnxruntime(network: nn.Module, example: torch.Tensor) -> Run:
    import onnxruntime

    file = io.BytesIO()
    axes = {"inputs": {0: "batch", 2: "rows", 3: "columns"}, "output": {0: "batch"}}
    with _quiet_tracing():
        # by tracing: torch's newer exporter takes ten times as long for the same graph, and one more package
        torch.onnx.export(
            network,
            (example,),
            file,
            input_names=["inputs"],
            output_names=["output"],
            dynamic_axes=axes,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3  # errors; what it says of a graph's shapes helps nobody
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(session.run(None, {"inputs": inputs.numpy()})[0])


_COMPILE: dict[str, Callable[[nn.Module, torch.Tensor], Run]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}
_PACKAGES = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime", "onnx")}
ENGINES = (PYTORCH, *_COMPILE)


def require_engine(engine: str) -> None:
    """Refuse an engine that is unknown or not installed.

    Raises:
        UserError: says which there are, or how to install it.
    """
    from importlib.util import find_spec

    if engine not in ENGINES:
        raise UserError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
    missing = [name for name in _PACKAGES.get(engine, ()) if find_spec(name) is None]
    if missing:
        raise UserError(
            f"engine {engine} needs {' and '.join(missing)}, which this Python does not have.\n"
            f'Install it with: pip install "cardiothorax[{engine}]", in the project\'s folder pip install ".[{engine}]"'
        )


class _quiet_tracing(warnings.catch_warnings):  # noqa: N801 - used like the one that it is
    """Silence what tracing says of Python values that it takes as constants: tests compare the answers."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered
