"""Models the product has never seen: plain modules `image (B,3,H,W) -> dict[task, Tensor]`, built by plain functions.

Every builder is a row of `ZOO`. The weights come from a seed of their own, and batch-norm statistics and affine
parameters are random, so that nothing agrees by being zero or one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from zoo_layers import SIDE, conv_bn, image, upsample
from zoo_levels import HighResolutionNet, SharedHeadNet, SharedTowerNet, UNet
from zoo_odd import AttentionNet, FlattenNet, OtherNormsNet, Unusual
from zoo_stages import DepthwiseNet, GroupedNet, PlainNet, ResidualNet, SqueezeExciteNet, StackedNet

__all__ = ["SIDE", "ZOO", "UNet", "build", "conv_bn", "image", "randomise", "upsample"]

ZOO: dict[str, Callable[[], nn.Module]] = {
    "plain": PlainNet,
    "residual": ResidualNet,
    "stacked": StackedNet,
    "depthwise": DepthwiseNet,
    "squeeze_excite": SqueezeExciteNet,
    "grouped": GroupedNet,
    "unet": UNet,
    "high_resolution": HighResolutionNet,
    "shared": SharedHeadNet,
    "flatten": FlattenNet,
    "other_norms": OtherNormsNet,
    "unusual": Unusual,
    "shared_tower": SharedTowerNet,
    "attention": AttentionNet,
}


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Random weights, affine parameters and running statistics of useful size, from one seed."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.copy_(torch.randn(module.num_features, generator=rng) * 0.1)
                module.running_var.copy_(torch.rand(module.num_features, generator=rng) + 0.5)
            for name, parameter in module.named_parameters(recurse=False):
                noise = torch.randn(parameter.shape, generator=rng)
                if parameter.ndim >= 2 and name == "weight":
                    fan = parameter[0].numel()
                    parameter.copy_(noise * (2.0 / fan) ** 0.5)
                else:
                    parameter.copy_(1.0 + 0.2 * noise if name in ("weight", "scale") else 0.1 * noise)


def build(name: str, seed: int = 0) -> nn.Module:
    """One model of the zoo with random weights and statistics, in eval mode."""
    state = torch.get_rng_state()
    model = ZOO[name]()
    torch.set_rng_state(state)
    randomise(model, seed)
    return model.eval()
