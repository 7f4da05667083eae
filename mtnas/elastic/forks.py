"""Finds the forks of a network (`OneOf`, `SumOf`), and tells what each of their options costs.

To be traced, every fork runs all its options and adds their results: so channels that meet in a fork are tied, and
each option's parameters reach the outputs.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.forks import EXPERTS, OPERATOR, Fork, needs_of, offered
from mtnas.elastic.contract import try_model
from mtnas.elastic.summary import MacCounter
from mtnas.forks.one_of import OneOf
from mtnas.forks.sum_of import SumOf
from mtnas.space.choice import Choice
from mtnas.space.rules import SpaceRules

ForkModule = OneOf | SumOf


def find_forks(network: nn.Module, example_BCHW: Tensor, rules: SpaceRules) -> tuple[Fork, ...]:
    """All forks in the order of the modules; those without a choice keep their default alone, and tell why.

    Args:
        network: its forks are changed: what is not offered is dropped, and the default becomes the option with the
            most multiply-adds.
        example_BCHW: the image batch to run.
        rules: say which kinds are offered.

    Raises:
        ModelError: the options of one fork give tensors of different shapes, or one of them does not run.
    """
    refused: list[Fork] = []
    for name, module in _forks_in(network).items():
        offers = rules.operators if isinstance(module, OneOf) else rules.experts
        if not offers and name in _forks_in(network):
            key = "operators" if isinstance(module, OneOf) else "experts"
            row = _measured(name, module, _Seen())
            refused.append(_refuse(network, row, f"the rules of the space do not say {key}: true"))
    told = {row.name for row in refused}
    while True:
        rows = _watched(network, example_BCHW, {n: m for n, m in _forks_in(network).items() if n not in told})
        wrong = [row for row in rows if row.refused]
        if not wrong:
            break
        refused += [_refuse(network, row, row.refused) for row in wrong]
        told |= {row.name for row in wrong}
    for row in rows:
        _set_default(network, row)
    order = {name: place for place, (name, _) in enumerate(network.named_modules())}
    return tuple(sorted((row for row in (*rows, *refused) if row.name in order), key=lambda row: order[row.name]))


def drop_forks(network: nn.Module, forks: Sequence[Fork], reasons: Mapping[str, str]) -> tuple[Fork, ...]:
    """The rows once some forks keep their default alone; forks inside what was dropped are gone."""
    rows = [
        _refuse(network, fork, reasons[fork.name]) if fork.name in reasons and _has(network, fork.name) else fork
        for fork in forks
    ]
    alive = [row for row in rows if _has(network, row.name)]
    return tuple(replace(row, needs=needs_of([row.name], alive)) for row in alive)


def _has(network: nn.Module, name: str) -> bool:
    return name in dict(network.named_modules())


def run_everything(network: nn.Module, forks: Sequence[Fork]) -> nn.Module:
    """Let every fork of a copy that nobody else uses run and add all its options."""
    for fork in offered(forks):
        module: Any = network.get_submodule(fork.name)
        module.__dict__["forward"] = module.everything
    return network


def _set_default(network: nn.Module, fork: Fork) -> None:
    module = network.get_submodule(fork.name)
    if isinstance(module, OneOf):
        module.default = fork.default


def fork_choices(forks: Sequence[Fork]) -> tuple[Choice, ...]:
    """One choice for every fork that may be chosen from."""
    return tuple(
        Choice(
            fork.choice,
            tuple(int(option) for option in fork.options) if fork.kind == EXPERTS else fork.options,
            fork.kind,
            fork.owners,
        )
        for fork in offered(forks)
    )


# --- finding ----------------------------------------------------------------------------------------------------------


def _forks_in(network: nn.Module) -> dict[str, ForkModule]:
    """Forks with at least two ways on."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, OneOf | SumOf) and len(module.parts()) > 1
    }


def _refuse(network: nn.Module, fork: Fork, reason: str) -> Fork:
    """A fork's row without a choice; the network keeps its default alone."""
    module = network.get_submodule(fork.name)
    assert isinstance(module, ForkModule)
    module.keep(default := module.default)
    return replace(fork, options=(default,), parts=(), macs=(), needs=(), refused=reason)


@dataclass
class _Seen:
    """What one pass shows of a fork."""

    runs: int = 0
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()

    def note(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | Mapping[str, Tensor]) -> None:
        self.runs += 1
        self.inputs = tuple(x.detach().clone() for x in inputs)
        self.outputs = tuple(output.values()) if isinstance(output, Mapping) else (output,)


def _watched(network: nn.Module, example_BCHW: Tensor, forks: Mapping[str, ForkModule]) -> list[Fork]:
    """Every fork with its owners and the costs of its options, cheapest first; or reasons against some of them."""
    if not forks:
        return []
    every = copy.deepcopy(network).requires_grad_(True)
    seen = {name: _Seen() for name in forks}
    for name in forks:
        module: Any = every.get_submodule(name)
        module.__dict__["forward"] = module.everything
        module.register_forward_hook(seen[name].note)
    outputs = try_model(every, example_BCHW.detach().clone().requires_grad_(True).mul(1.0))
    rows = [_measured(name, module, seen[name]) for name, module in forks.items()]
    if any(row.refused for row in rows):
        return rows
    reached = _owners(outputs, {name: one.outputs for name, one in seen.items()})
    return [replace(row, owners=reached[row.name], needs=needs_of([row.name], rows)) for row in rows]


def _owners(outputs: Mapping[str, Tensor], results: Mapping[str, tuple[Tensor, ...]]) -> dict[str, tuple[str, ...]]:
    """Tasks whose output each fork's result reaches."""
    reached: dict[str, dict[str, None]] = {name: {} for name in results}
    traced = [(name, result) for name, found in results.items() for result in found if result.requires_grad]
    for task, output in outputs.items() if traced else ():
        gradients = torch.autograd.grad(output.sum(), [r for _, r in traced], retain_graph=True, allow_unused=True)
        for (name, _), gradient in zip(traced, gradients, strict=True):
            if gradient is not None:
                reached[name][task] = None
    return {name: tuple(tasks) for name, tasks in reached.items()}


def _measured(name: str, module: ForkModule, seen: _Seen) -> Fork:
    """The fork with its options in the order of their multiply-adds, then parameters, then as they were given."""
    names = {id(part): f"{name}.{inner}" for inner, part in module.named_modules() if inner}
    parts = {option: names[id(part)] for option, part in module.parts().items()}
    kind = OPERATOR if isinstance(module, OneOf) else EXPERTS
    fork = Fork(name, kind, tuple(parts), tuple(parts.values()))
    if seen.runs != 1:
        return replace(fork, refused=f"it runs {seen.runs} times in one forward" if seen.runs else "it does not run")
    macs, params = {}, {}
    for option, part in module.parts().items():
        macs[option], changed = _cost(part, seen.inputs)
        params[option] = sum(parameter.numel() for parameter in part.parameters())
        if changed:
            return replace(fork, refused=f"{option} changes its input in place")
    if isinstance(module, SumOf):
        return replace(fork, macs=tuple(itertools.accumulate(macs.values())))
    order = sorted(parts, key=lambda option: (macs[option], params[option]))
    return replace(
        fork,
        options=tuple(order),
        parts=tuple(parts[option] for option in order),
        macs=tuple(macs[option] for option in order),
    )


def _cost(part: nn.Module, inputs: Sequence[Tensor]) -> tuple[int, bool]:
    """Multiply-adds for one image, and whether the inputs were written to."""
    counter, own = MacCounter(), [x.clone() for x in inputs]
    before = [x._version for x in own]
    with torch.no_grad(), counter.watching(part):
        part(*own)
    return counter.macs, [x._version for x in own] != before
