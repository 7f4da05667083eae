"""Which tasks a parameter serves: those whose output sends it a gradient."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def parameter_owners(network: nn.Module, outputs: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Parameter name (every name of a shared one) -> tasks, in the order of the outputs.

    Args:
        network: its parameters require gradients.
        outputs: by task, still attached to their graph.
    """
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    parameters = [parameter for _, parameter in network.named_parameters(remove_duplicate=False)]
    unique = list(dict.fromkeys(parameters))
    reached: dict[int, list[str]] = {id(parameter): [] for parameter in unique}
    for task, output in outputs.items():
        gradients = torch.autograd.grad(output.sum(), unique, retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(unique, gradients, strict=True):
            if gradient is not None:
                reached[id(parameter)].append(task)
    return {name: tuple(reached[id(parameter)]) for name, parameter in zip(names, parameters, strict=True)}
