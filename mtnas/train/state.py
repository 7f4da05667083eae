"""Everything that a training changes, as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtnas.base.errors import CheckpointError
from mtnas.train.average import WeightAverage
from mtnas.train.optimizer import load_optimizer_state, optimizer_state


@dataclass(frozen=True)
class FitState:
    """The parts that hold state; `beside` by name, as `Objective.beside`; `average` where weights are averaged."""

    module: nn.Module
    beside: Mapping[str, nn.Module]
    optimizer: Optimizer
    average: WeightAverage | None

    def tensors(self) -> dict[str, Tensor]:
        parts = {
            "module": self.module.state_dict(),
            **{name: module.state_dict() for name, module in self.beside.items()},
            "optimizer": optimizer_state(self.optimizer, self._names()),
            "average": self.average.tensors if self.average else {},
        }
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def load(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Inverse of `tensors`; memory layouts stay."""
        load_module(self.module, part(tensors, "module/"), where)
        for name, module in self.beside.items():
            module.load_state_dict(part(tensors, f"{name}/"))
        load_optimizer_state(self.optimizer, self._names(), part(tensors, "optimizer/"))
        if self.average:
            self.average.load(part(tensors, "average/"))

    def along(self, tensor: Tensor) -> list[Tensor]:
        """What has an entry for every entry of a parameter: its optimizer's state, its average; nothing of others."""
        if not isinstance(tensor, nn.Parameter):
            return []
        of_optimizer = self.optimizer.state.get(tensor, {}).values()
        found = [value for value in of_optimizer if isinstance(value, Tensor) and value.shape == tensor.shape]
        if self.average:
            found += [self.average.tensors[name] for name, own in self.average.parameters.items() if own is tensor]
        return found

    def _names(self) -> dict[str, nn.Parameter]:
        named = {
            f"{part}/{name}": parameter
            for part, module in self.beside.items()
            for name, parameter in module.named_parameters()
        }
        return {**dict(self.module.named_parameters()), **named}


def load_module(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy values into the module's tensors, keeping their memory layout."""
    own = module.state_dict()
    if own.keys() != state.keys():
        raise CheckpointError("weights of this network", where=where, cure="use a new --out")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
