"""Channel groups of a network: units that live in the same places, and why some may not shrink.

A unit is one set of the traced partition: all positions that must go together. Units that touch the same ports
equally often form one group, in the order of their channels, so that positions stay ascending on every axis.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from mtnas.base.blocks import Block, all_inside
from mtnas.base.errors import ModelError
from mtnas.base.forks import Fork, needs_of, offered
from mtnas.base.groups import ChannelGroup, Member
from mtnas.base.tables import nearest
from mtnas.elastic.layers import BOTH, OUT, ROLES, Port, PortAxis, axes, unsupported
from mtnas.elastic.sizes import InputSizes
from mtnas.elastic.trace import IMAGE, Trace, trace

Unit = dict[Port, list[int]]


@dataclass(frozen=True)
class BareNorm:
    """A norm without tensors of its own, whose `num_features` follows a group nevertheless."""

    layer: str
    group: str
    channels_per_unit: int


@dataclass(frozen=True)
class Structure:
    """What was found in a network.

    Args:
        groups: all channel groups, in the order of the layers.
        parameter_owners: tasks that each parameter reaches.
        bare_norms: norms without tensors.
        blocks: blocks that may be left out, and those that look like it but may not.
        inputs: the sizes that the network may run at.
        forks: forks that may be chosen from, and those that may not.
    """

    groups: tuple[ChannelGroup, ...]
    parameter_owners: Mapping[str, tuple[str, ...]]
    bare_norms: tuple[BareNorm, ...] = ()
    blocks: tuple[Block, ...] = ()
    inputs: InputSizes = InputSizes()
    forks: tuple[Fork, ...] = ()


def find_groups(
    network: nn.Module,
    example_inputs: Tensor,
    owners: Mapping[str, tuple[str, ...]],
    ignored: frozenset[str],
    forks: Sequence[Fork] = (),
) -> Structure:
    """All groups of a network, in the order of its layers; unproven.

    Args:
        network: a copy that may be traced.
        example_inputs: image batch (B,C,H,W).
        owners: tasks that each parameter reaches.
        ignored: names of layers whose output channels must stay.
        forks: the network's forks; those that may be chosen from run all their options.
    """
    traced = trace(network, example_inputs)
    found = _Grouping(network, traced, owners, ignored).structure()
    groups = [replace(group, needs=needs_of([m.name for m in group.members], offered(forks))) for group in found.groups]
    return replace(found, groups=tuple(groups), forks=tuple(forks))


class _Grouping:
    def __init__(
        self, network: nn.Module, traced: Trace, owners: Mapping[str, tuple[str, ...]], ignored: frozenset[str]
    ) -> None:
        self.traced, self.owners, self.ignored = traced, owners, ignored
        self.layers = dict(network.named_modules())
        self.order = {name: place for place, name in enumerate(network.state_dict())}
        self.layer_order = {name: place for place, name in enumerate(self.layers)}
        self.tasks = _task_order(owners)

    def structure(self) -> Structure:
        found: dict[frozenset[tuple[Port, int]], list[Unit]] = {}
        reasons: dict[frozenset[tuple[Port, int]], str] = {}
        for atoms in self.traced.partition.sets():
            unit = _unit(atoms)
            if not any(port.side == OUT and port.layer != IMAGE for port in unit):
                continue
            signature = frozenset(Counter({port: len(channels) for port, channels in unit.items()}).items())
            found.setdefault(signature, []).append(unit)
            reasons[signature] = reasons.get(signature) or self._reason(unit, atoms)
        named: dict[str, int] = {}
        groups: list[ChannelGroup] = []
        bare: list[BareNorm] = []
        for signature, units in sorted(found.items(), key=lambda item: self._first_place(item[1][0])):
            producer = self._producer(units[0])
            units.sort(key=lambda unit: unit[producer][0])
            named[producer.layer] = named.get(producer.layer, 0) + 1
            count = named[producer.layer]
            name = producer.layer if count == 1 else f"{producer.layer}/{count}"
            groups.append(self._group(name, units, reasons[signature]))
            bare += [
                BareNorm(p.layer, name, len(c)) for p, c in units[0].items() if p.side == BOTH and not self._axes(p)
            ]
        return Structure(tuple(groups), self.owners, tuple(bare))

    def _producer(self, unit: Unit) -> Port:
        return min((port for port in unit if port.side == OUT and port.layer != IMAGE), key=self._place)

    def _place(self, port: Port) -> int:
        return self.layer_order.get(port.layer, len(self.layer_order))

    def _first_place(self, unit: Unit) -> tuple[int, int]:
        producer = self._producer(unit)
        return self._place(producer), unit[producer][0]

    def _group(self, name: str, units: list[Unit], reason: str) -> ChannelGroup:
        members: dict[tuple[str, int], Member] = {}
        for port in units[0]:
            for axis in self._axes(port):
                rows = tuple(tuple(sorted({int(axis.positions_C[c]) for c in unit[port]})) for unit in units)
                full_name = f"{port.layer}.{axis.tensor}" if axis.tensor else port.layer
                members[full_name, axis.axis] = Member(full_name, axis.axis, rows, ROLES[port.side])
        ordered = sorted(members.values(), key=lambda m: (self.order.get(m.name, len(self.order)), m.axis))
        if not reason and len(units) == 1:
            reason = (
                "all its channels are tied together" if len(units[0][self._producer(units[0])]) > 1 else "one channel"
            )
        return ChannelGroup(name, len(units), tuple(ordered), self._owners(ordered), reason)

    def _axes(self, port: Port) -> list[PortAxis]:
        if port.layer == IMAGE:
            return []
        if port.layer in self.layers:
            return axes(self.layers[port.layer], port.side)
        size, axis = self.traced.sizes[port], self.traced.parameters[port.layer]
        return [PortAxis("", axis, np.arange(size))]

    def _owners(self, members: Sequence[Member]) -> tuple[str, ...]:
        reached = {task for m in members if m.role == ROLES[OUT] for task in self.owners.get(m.name, ())}
        return tuple(task for task in self.tasks if task in reached)

    def _reason(self, unit: Unit, atoms: Sequence[tuple[Hashable, int]]) -> str:
        """Why a unit may not be removed, by what it touches."""
        for key, _ in atoms:
            if key in self.traced.outputs:
                return f"is output {self.traced.outputs[key]!r}"
            if key in self.traced.fixed:
                return self.traced.fixed[key]
        if any(port.layer == IMAGE for port in unit):
            return "is tied to the channels of the input image"
        for port in unit:
            if port.side in (OUT, BOTH) and port.layer in self.ignored:
                return f"{port.layer} is ignored"
            if port.layer in self.layers and (why := unsupported(self.layers[port.layer])):
                return f"{port.layer}: {why}"
        return ""


def _unit(atoms: Sequence[tuple[Hashable, int]]) -> Unit:
    unit: Unit = {}
    for key, channel in atoms:
        if isinstance(key, Port):
            unit.setdefault(key, []).append(channel)
    return {port: sorted(channels) for port, channels in unit.items()}


def _task_order(owners: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return max(owners.values(), key=len, default=())


def ignored_names(model: nn.Module, ignored_layers: Sequence[str | nn.Module]) -> frozenset[str]:
    """Names of the given layers and of everything inside them; a text is a dotted name or a glob."""
    names = {module: name for name, module in model.named_modules()}
    chosen: set[str] = set()
    for layer in ignored_layers:
        if isinstance(layer, str):
            found = {name for name in names.values() if fnmatch.fnmatchcase(name, layer)}
        else:
            found = {names[layer]} if layer in names else set()
        if not found:
            known = (
                nearest(layer, [n for n in names.values() if n])
                if isinstance(layer, str)
                else "pass one of its modules"
            )
            raise ModelError(
                "layers of this model", received=str(layer).splitlines()[0], where="ignored_layers", cure=known
            )
        chosen |= found
    return frozenset(names.values()) if "" in chosen else all_inside(names.values(), tuple(chosen))
