"""A selection as a plain module: own weights, right attributes, evaluation mode."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.blocks import all_inside
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
    small = copy.deepcopy(network, _nothing_for(network, plan.absent))
    for block in plan.skipped:
        small.set_submodule(block, nn.Identity())
    for name, option in plan.chosen.items():
        fork: Any = small.get_submodule(name)
        fork.keep(option)
    layers = dict(small.named_modules())
    gone = all_inside([*slicer.stores, *plan.attributes], plan.absent)
    shared: dict[int, nn.Parameter] = {}
    for name, (store, key) in slicer.stores.items():
        if name in gone:
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
        if layer_name not in gone:
            layers[layer_name].__dict__.update(values)
    return small.eval()


def _nothing_for(network: nn.Module, absent: Sequence[str]) -> dict[int, nn.Module]:
    """What copying starts with: modules that will be dropped are not copied, unless they have another name as well."""
    modules = dict(network.named_modules(remove_duplicate=False))
    gone = all_inside(modules, absent)
    stay = {id(module) for name, module in modules.items() if name not in gone}
    return {id(modules[name]): nn.Identity() for name in absent if name in modules and id(modules[name]) not in stay}


def _kept(name: str, slicer: Slicer, plan: Plan, full: Tensor) -> Tensor:
    return slicer.cut(name, plan, full.detach()).clone(memory_format=torch.contiguous_format)
