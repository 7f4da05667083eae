"""The optimizer: weight decay on weights of convolutions and linear layers only, and a state that can be stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from mtnas.base.errors import CheckpointError
from mtnas.train.config import FitConfig


def make_optimizer(config: FitConfig, module: nn.Module, beside: Iterable[nn.Module]) -> Optimizer:
    """An optimizer over the network and what is learned beside it; fused kernels halve the time of small networks."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    plain = [p for p in trained if p.ndim <= 1] + [p for other in beside for p in other.parameters()]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return started(SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, fused=True))
    return AdamW(groups, lr=config.lr, fused=True)


def started(optimizer: SGD) -> SGD:
    """With momenta of zero in place: the fused kernel cannot mix parameters with and without (torch 2.13), and a
    parameter may get its first gradient later than others, as those of blocks that are left out."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_state(optimizer: Optimizer, names: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimizer's tensors as `parameter name|key`."""
    return {
        f"{name}|{key}": value
        for name, parameter in names.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimizer_state(optimizer: Optimizer, names: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """Inverse of `optimizer_state`. Memory layouts follow the parameters, or sums would round differently."""
    for key, value in state.items():
        name, _, slot = key.rpartition("|")
        if name not in names:
            raise CheckpointError(
                "parameters of this network", received=name, where="checkpoint", cure="use a new --out"
            )
        parameter = names[name]
        if value.shape == parameter.shape:
            restored = torch.empty_like(parameter, requires_grad=False).copy_(value)
        else:
            restored = value.clone()
        optimizer.state[parameter][slot] = restored
