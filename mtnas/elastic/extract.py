"""A selection as a plain module: own weights, right attributes, evaluation mode."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.blocks import inside
from mtnas.elastic.slicing import Plan, Slicer


def extract(network: nn.Module, slicer: Slicer, plan: Plan, statistics: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the network that holds only what the plan keeps; skipped blocks become `nn.Identity`.

    Forks keep what is chosen alone, under its own name.

    Args:
        network: the full network, which stays as it is.
        slicer: made for this network.
        plan: the cuts.
        statistics: batch-norm buffers of the selected network; stored ones are sliced where it is silent.
    """
    small = copy.deepcopy(network)
    for block in plan.skipped:
        small.set_submodule(block, nn.Identity())
    for name, option in plan.chosen.items():
        fork: Any = small.get_submodule(name)
        fork.keep(option)
    layers = dict(small.named_modules())
    shared: dict[int, nn.Parameter] = {}
    for name, (store, key) in slicer.stores.items():
        if inside(name, plan.absent):
            continue
        layer = layers[name.rpartition(".")[0]]
        if name in statistics:
            layer._buffers[key] = statistics[name].detach().to(store[key]).clone()
        elif name in plan.cuts and key in layer._parameters:
            full = store[key]
            if id(full) not in shared:
                shared[id(full)] = nn.Parameter(_kept(name, slicer, plan, full), requires_grad=full.requires_grad)
            layer._parameters[key] = shared[id(full)]
        elif name in plan.cuts:
            layer._buffers[key] = _kept(name, slicer, plan, store[key])
    for layer_name, values in plan.attributes.items():
        if not inside(layer_name, plan.absent):
            layers[layer_name].__dict__.update(values)
    return small.eval()


def _kept(name: str, slicer: Slicer, plan: Plan, full: Tensor) -> Tensor:
    return slicer.cut(name, plan, full.detach()).clone(memory_format=torch.contiguous_format)
