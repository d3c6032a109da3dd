"""Class-activation maps: where in an image a network's logit comes from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.inferers import Inferer
from torch import nn

from pipelines.engines import same_engine
from pipelines.errors import UserError


class ActivationInferer(Inferer):
    """Give the logit of each place of the last feature map, whose mean is the network's own logit.

    A network that averages its last features and multiplies them by the weights of a linear layer does the same as
    one that multiplies first and averages then (Zhou et al., CVPR 2016; MONAI's ``visualize.CAM``, which gives no
    logit beside its map).

    Args:
        flips: test-time variants to average over: axes to flip each time, 0 rows and 1 columns; ``[[]]`` is the image
            as it is. Flipped maps are flipped back.
        features: the name of the module that gives the features.
        head: the name of the linear layer.
    """

    def __init__(
        self, flips: Sequence[Sequence[int]] = ((),), features: str = "layer4", head: str = "fc"
    ) -> None:
        self.flips, self.features, self.head = [[axis + 2 for axis in flip] for flip in flips], features, head
        self._activations: dict[nn.Module, nn.Module] = {}  # one a model of an ensemble

    def __call__(self, inputs: torch.Tensor, network: nn.Module) -> torch.Tensor:
        """Return maps (B, 1, h, w) of ``inputs`` (B, C, H, W), h and w those of the feature map.

        Raises:
            UserError: the network has no such modules.
        """
        variants = [
            self._maps(inputs.flip(flip) if flip else inputs, network).flip(flip) for flip in self.flips
        ]
        return torch.stack(variants).mean(dim=0)

    def _maps(self, images: torch.Tensor, network: nn.Module) -> torch.Tensor:
        if network not in self._activations:
            self._activations[network] = same_engine(network, self._of)
        return self._activations[network](images)

    def _of(self, network: nn.Module) -> nn.Module:
        modules = dict(network.named_modules())
        if self.features not in modules or not isinstance(head := modules.get(self.head), nn.Linear):
            raise UserError(
                f"a heat map needs a network with '{self.features}' and a linear '{self.head}', as ResNet has; "
                "name the modules of yours in `activation`"
            )
        return _Activation(network, modules[self.features], head)


class _Activation(nn.Module):
    """From images to the logit of each place."""

    def __init__(self, network: nn.Module, features: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.network, self.features, self.head = network, features, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        hook = self.features.register_forward_hook(lambda _, __, output: kept.append(output))
        try:
            self.network(images)
        finally:
            hook.remove()
        return F.conv2d(kept[0], self.head.weight[:, :, None, None], self.head.bias)


def logit(maps: torch.Tensor) -> torch.Tensor:
    """Return the logits (…,) of class-activation maps (…, h, w)."""
    return maps.mean(dim=(-2, -1))
