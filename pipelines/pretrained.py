"""Start a training from a ResNet that was trained on photographs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipelines import checkpoints
from pipelines.errors import UserError
from pipelines.runs import LAST

logger = logging.getLogger(__name__)
_STEM, _HEAD = "conv1.weight", "fc."


def start_from(network: nn.Module, path: str | Path | None, run_dir: str | Path | None = None) -> nn.Module:
    """Return ``network`` with the weights in ``path``, all but its last layer.

    A stem that takes several channels is summed over them: a grey image then gives what a photograph with three equal
    channels would.

    Args:
        network: a ResNet with torchvision's parameter names (MONAI's with ``bias_downsample: false``).
        path: a state dictionary, plain or under ``state_dict`` or ``model``, e.g. torchvision's
            ``resnet18-f37072fd.pth``. Nothing in it is run. None changes nothing.
        run_dir: a run that goes on brings its own weights, and the file is not needed any more.

    Raises:
        UserError: the file cannot be read (see :func:`pipelines.checkpoints.load`) or is of another architecture.
    """
    if path is None or (run_dir is not None and (Path(run_dir) / LAST).is_file()):
        return network
    own = network.state_dict()
    given = _tensors(checkpoints.load(path), path)
    body = {name: value for name, value in given.items() if not name.startswith(_HEAD)}
    stem = body.get(_STEM)
    if stem is not None and stem.ndim == 4 and stem.shape[1] > own[_STEM].shape[1] == 1:
        body[_STEM] = stem.sum(dim=1, keepdim=True)
    _check(own, body, path)
    network.load_state_dict({**own, **body})
    logger.info("Starting from %s: %d of %d tensors.", Path(path).name, len(body), len(own))
    return network


def _tensors(content: Any, path: str | Path) -> dict[str, torch.Tensor]:
    for name in ("state_dict", "model"):
        content = content.get(name, content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise UserError(
            f"{path} holds no network weights: expected a state dictionary, as torchvision's files are."
        )
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _check(own: Mapping[str, torch.Tensor], body: Mapping[str, torch.Tensor], path: str | Path) -> None:
    # files of before 2017 lack the counters
    needed = [name for name in own if not name.startswith(_HEAD) and not name.endswith("num_batches_tracked")]
    wrong = [name for name in needed if name not in body or body[name].shape != own[name].shape]
    extra = [name for name in body if name not in own]
    if wrong or extra:
        name = (wrong or extra)[0]
        theirs = tuple(body[name].shape) if name in body else "nothing"
        ours = tuple(own[name].shape) if name in own else "nothing"
        raise UserError(
            f"{path} is of another architecture: '{name}' should be {ours}, is {theirs} "
            f"({len(wrong)} such tensors, {len(extra)} unknown).\nGive a ResNet18 with torchvision's names, "
            "e.g. resnet18-f37072fd.pth, or none."
        )
