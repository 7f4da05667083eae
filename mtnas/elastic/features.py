"""Which channels of a module's output stay when a network is cut.

In a copy of the network a probe, a layer with one weight per channel, follows the output. The copy's groups are then
found and proven like those of any network: a probe's place in a group says to which unit each channel belongs, through
concatenations and sums too, and the proof compares the cut probe with masking. Shape letters: C = channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from mtnas.base.groups import ChannelGroup, Selection
from mtnas.elastic.groups import find_groups
from mtnas.elastic.model import ElasticModel
from mtnas.elastic.proof import prove
from mtnas.elastic.slicing import Slicer
from mtnas.elastic.trunk import tensors_in, watching, with_tensors

_PROBES = "<probes>"
Unit = tuple[str, int]


@dataclass(frozen=True)
class FeatureMap:
    """One tensor that a module returns.

    Args:
        module: the module's name.
        number: place of the tensor among those the module returns.
        shape: at full width, on the example: (B,C,H,W), (B,N,C) tokens or (B,C).
        units_C: group and unit of each channel; None for a channel that always stays.
        refused: why the channels are not known; empty when they are.
    """

    module: str
    number: int
    shape: tuple[int, ...]
    units_C: tuple[Unit | None, ...] = ()
    refused: str = ""

    @property
    def name(self) -> str:
        return f"{self.module}/{self.number}"

    @property
    def channels(self) -> int:
        return self.shape[channel_axis(len(self.shape))]

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Group -> its channels; those that always stay are under the empty name."""
        names = [unit[0] if unit else "" for unit in self.units_C]
        return {name: np.flatnonzero([own == name for own in names]) for name in dict.fromkeys(names)}

    def kept(self, selection: Selection) -> np.ndarray:
        """The channels that a selection keeps, ascending."""
        kept = {name: set(units) for name, units in selection.kept}
        stays = [unit is None or unit[0] not in kept or unit[1] in kept[unit[0]] for unit in self.units_C]
        return np.flatnonzero(stays)


def channel_axis(ndim: int) -> int:
    """Maps and vectors have their channels second, tokens last."""
    return 2 if ndim == 3 else 1


def feature_maps(elastic: ElasticModel, modules: Sequence[str]) -> tuple[FeatureMap, ...]:
    """What these modules return, in the order of their names and of their calls."""
    with watching(elastic.model, modules) as found, torch.no_grad():
        elastic.model(elastic.example)
    maps = []
    for module in modules:
        tensors = [tensor for output in found[module] for tensor in tensors_in(output)]
        for k, tensor in enumerate(tensors):
            maps.append(FeatureMap(module, k, tuple(tensor.shape), (), _not_run_once(module, len(found[module]))))
    return tuple(maps)


def _not_run_once(module: str, calls: int) -> str:
    return "" if calls == 1 else f"{module} runs {calls} times in one forward"


def trace_channels(elastic: ElasticModel, modules: Sequence[str]) -> tuple[FeatureMap, ...]:
    """The maps of these modules with the unit of every channel, or the reason why it is not known."""
    maps = feature_maps(elastic, modules)
    return maps if any(found.refused for found in maps) else _Probing(elastic, modules, maps).traced()


class _Scale(nn.Module):
    """One factor per channel of tokens or vectors."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def _probe(found: FeatureMap) -> nn.Module:
    """A layer with a weight for every channel, that keeps channels apart."""
    return nn.BatchNorm2d(found.channels) if len(found.shape) == 4 else _Scale(found.channels)


class _Probing:
    """A copy of the network with a probe behind every map, its proven groups, and what they mean in the model."""

    def __init__(self, elastic: ElasticModel, modules: Sequence[str], maps: Sequence[FeatureMap]) -> None:
        self.modules, self.maps = modules, maps
        self.example = elastic.example.cpu()
        self.network = copy.deepcopy(elastic.model).cpu().requires_grad_(True)
        self.probes = [f"{_PROBES}.{k}.weight" for k in range(len(maps))]
        self._install()
        found = find_groups(self.network, self.example, elastic.parameter_owners, frozenset())
        places = _places(elastic.groups)
        self.units = {group.name: _units(group, places) for group in found.groups}
        frozen = {group.name: group.frozen for group in elastic.groups}
        groups = tuple(replace(group, frozen=_reason(self.units[group.name], frozen)) for group in found.groups)
        self.structure = prove(self.network.requires_grad_(False), replace(found, groups=groups), self.example)
        pairs = zip(groups, self.structure.groups, strict=True)
        self.failed = {after.name: after.frozen for before, after in pairs if after.frozen != before.frozen}

    def _install(self) -> None:
        probes = [_probe(found).eval() for found in self.maps]
        self.network.add_module(_PROBES, nn.ModuleList(probes))
        for name in self.modules:
            own = [probe for probe, found in zip(probes, self.maps, strict=True) if found.module == name]
            _Hook(self.network.get_submodule(name), own)

    def traced(self) -> tuple[FeatureMap, ...]:
        maps = [self._with_units(found, probe) for found, probe in zip(self.maps, self.probes, strict=True)]
        shapes, selection = self._halved()
        return tuple(_of_shape(found, shape, selection) for found, shape in zip(maps, shapes, strict=True))

    def _with_units(self, found: FeatureMap, probe: str) -> FeatureMap:
        """The map with the unit of each channel, read from the probe's place in the groups."""
        units: list[Unit | None] = [None] * found.channels
        refused = ""
        for group in self.structure.groups:
            for member in (member for member in group.members if member.name == probe):
                refused = refused or self.failed.get(group.name, "")
                for unit, positions in zip(self.units[group.name], member.positions_UK, strict=True):
                    for position in positions:
                        units[position] = unit
        if None in units and self.failed:  # where a probe was not followed, the groups it cuts off fail
            refused = refused or next(iter(self.failed.values()))
        return replace(found, units_C=tuple(units), refused=refused)

    def _halved(self) -> tuple[list[tuple[int, ...]], Selection]:
        """Shapes of the maps when every group is halved, and the selection that this is."""
        halves = {group.name: range(max(1, group.size // 2)) for group in self.structure.groups if group.elastic}
        kept: dict[str, list[int]] = {}
        for unit in (self.units[group][u] for group, half in halves.items() for u in half):
            if unit:
                kept.setdefault(unit[0], []).append(unit[1])
        slicer = Slicer(self.network, self.structure)
        applied = slicer.applied(slicer.plan(Selection.of(halves)), {}, ())
        with applied, watching(self.network, self.modules) as seen, torch.no_grad():
            self.network(self.example)
        tensors = [tensor for name in self.modules for output in seen[name] for tensor in tensors_in(output)]
        return [tuple(tensor.shape) for tensor in tensors], Selection.of(kept)


class _Hook:
    """Sends the tensors of a module's output through their probes, after all other hooks: tracing has to see both."""

    def __init__(self, module: nn.Module, probes: Sequence[nn.Module]) -> None:
        self.probes = probes
        self.handle = module.register_forward_hook(self.after)
        module.register_forward_pre_hook(self.before)

    def before(self, module: nn.Module, inputs: object) -> None:
        self.handle.remove()
        self.handle = module.register_forward_hook(self.after)

    def after(self, module: nn.Module, inputs: object, output: object) -> object:
        following = iter(self.probes)
        return with_tensors(output, lambda tensor: next(following)(tensor))


def _places(groups: Sequence[ChannelGroup]) -> dict[tuple[str, int, int], Unit]:
    """(tensor, axis, position) of every producer -> group and unit."""
    return {
        (member.name, member.axis, position): (group.name, unit)
        for group in groups
        for member in group.members
        if member.role == "out"
        for unit, positions in enumerate(member.positions_UK)
        for position in positions
    }


def _units(group: ChannelGroup, places: Mapping[tuple[str, int, int], Unit]) -> list[Unit | None]:
    """The elastic model's unit for each unit of a probed group, which may be one part of its group."""
    producers = [member for member in group.members if member.role == "out"]
    found: list[Unit | None] = []
    for unit in range(group.size):
        keys = [(member.name, member.axis, member.positions_UK[unit][0]) for member in producers]
        found.append(next((places[key] for key in keys if key in places), None))
    return found


def _reason(units: Sequence[Unit | None], frozen: Mapping[str, str]) -> str:
    """Why a group may not shrink in the elastic model; empty when it may."""
    named = next((unit[0] for unit in units if unit), "")
    return frozen[named] if named else "no group of the elastic model"


def _of_shape(found: FeatureMap, shape: tuple[int, ...], selection: Selection) -> FeatureMap:
    """The map, refused unless it has this shape in this selection."""
    wanted = list(found.shape)
    wanted[channel_axis(len(wanted))] = len(found.kept(selection))
    if found.refused or tuple(wanted) == shape:
        return found
    return replace(found, refused=f"cut by half, it has shape {shape} where {tuple(wanted)} was expected")
