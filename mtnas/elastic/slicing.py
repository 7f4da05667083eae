"""Runs a part of a network by putting slices in the places of its tensors, and takes them out again.

Prefixes are views (`narrow`), so gradients reach the full parameters and are exactly zero outside; other subsets are
gathered (`index_select`), which has the same gradients. Layers whose attributes depend on width (`groups` of a
depthwise convolution) have them patched for the time of the call, skipped blocks a forward that returns its input, and
forks the forward of the option that is chosen.
Shape letters: U = units of a group.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtnas.base.blocks import inside, skippable_names
from mtnas.base.forks import left_out, offered
from mtnas.base.groups import ChannelGroup, Selection
from mtnas.elastic.groups import Structure
from mtnas.elastic.layers import attributes

_PLANS_KEPT = 256


@dataclass(frozen=True)
class Cut:
    """What stays of one axis: the first `length` positions, or the listed ones."""

    axis: int
    length: int
    index: Tensor | None = None

    def __call__(self, tensor: Tensor) -> Tensor:
        if self.index is None:
            return tensor.narrow(self.axis, 0, self.length)
        return tensor.index_select(self.axis, self.index.to(tensor.device))


@dataclass(frozen=True)
class Plan:
    """How a selection changes the network.

    Args:
        cuts: by tensor name.
        attributes: by layer name.
        skipped: blocks that return their input.
        chosen: the options of all forks that run.
        absent: modules that do not run: skipped blocks, and options that are not chosen.
    """

    cuts: Mapping[str, tuple[Cut, ...]]
    attributes: Mapping[str, Mapping[str, Any]]
    skipped: tuple[str, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


Store = dict[str, Any]
Patch = tuple[Store, str, Any]


class Slicer:
    """Makes plans for the selections of one network, and runs them. Plans are kept for the last selections."""

    def __init__(self, network: nn.Module, structure: Structure) -> None:
        self.groups = {group.name: group for group in structure.groups}
        self.blocks = skippable_names(structure.blocks)
        self.sizes = structure.inputs.sizes
        self.forks = offered(structure.forks)
        self.bare_norms = structure.bare_norms
        self.layers = dict(network.named_modules())
        self.shapes = {name: tuple(tensor.shape) for name, tensor in _tensors(network).items()}
        self.stores = {name: self._store(name) for name in self.shapes}
        self._members = {group.name: _member_positions(group) for group in structure.groups}
        self._plans: OrderedDict[Selection, Plan] = OrderedDict()

    def _store(self, name: str) -> tuple[Store, str]:
        layer_name, _, key = name.rpartition(".")
        layer = self.layers[layer_name]
        return (layer._parameters if key in layer._parameters else layer._buffers), key

    # --- plans --------------------------------------------------------------------------------------------------

    def plan(self, selection: Selection) -> Plan:
        """The plan of a selection without full groups (see `Selection.compact`)."""
        plan = self._plans.get(selection)
        if plan is None:
            plan = self._make_plan(selection)
            self._plans[selection] = plan
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(selection)
        return plan

    def _make_plan(self, selection: Selection) -> Plan:
        selection.check(tuple(self.groups.values()), self.blocks, self.sizes, self.forks)
        cuts: dict[str, list[Cut]] = {}
        for (name, axis), kept in self._kept(selection).items():
            prefix = kept.size == 0 or kept[-1] == kept.size - 1
            cuts.setdefault(name, []).append(Cut(axis, kept.size, None if prefix else torch.from_numpy(kept)))
        by_name = {name: tuple(found) for name, found in cuts.items()}
        chosen = {fork.name: fork.default for fork in self.forks} | dict(selection.chosen)
        absent = (*selection.skipped, *left_out(self.forks, chosen))
        running = {name: option for name, option in chosen.items() if not inside(name, absent)}
        return Plan(by_name, self._attributes(cuts, selection), selection.skipped, running, absent)

    def _kept(self, selection: Selection) -> dict[tuple[str, int], np.ndarray]:
        """(tensor, axis) -> kept positions, ascending; positions of no group always stay."""
        masks: dict[tuple[str, int], np.ndarray] = {}
        for name, units in selection.kept:
            gone_U = np.ones(self.groups[name].size, dtype=bool)
            gone_U[list(units)] = False
            for (tensor, axis), positions_UK in self._members[name]:
                mask = masks.setdefault((tensor, axis), np.ones(self.shapes[tensor][axis], dtype=bool))
                mask[positions_UK[gone_U]] = False
        return {place: np.flatnonzero(mask) for place, mask in masks.items()}

    def _attributes(self, cuts: Mapping[str, Sequence[Cut]], selection: Selection) -> dict[str, dict[str, Any]]:
        shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, found in cuts.items():
            shape = list(self.shapes[name])
            for cut in found:
                shape[cut.axis] = cut.length
            layer_name, _, key = name.rpartition(".")
            shapes.setdefault(layer_name, {})[key] = tuple(shape)
        patched = {layer: attributes(self.layers[layer], of_layer) for layer, of_layer in shapes.items()}
        kept = selection.as_dict
        for norm in (norm for norm in self.bare_norms if norm.group in kept):
            gone = self.groups[norm.group].size - len(kept[norm.group])
            own = patched.setdefault(norm.layer, {"num_features": self.layers[norm.layer].num_features})
            own["num_features"] -= gone * norm.channels_per_unit
        return patched

    # --- running ------------------------------------------------------------------------------------------------

    def cut(self, name: str, plan: Plan, tensor: Tensor) -> Tensor:
        """The kept part of one tensor."""
        for cut in plan.cuts.get(name, ()):
            tensor = cut(tensor)
        return tensor

    @contextmanager
    def applied(self, plan: Plan, tensors: Mapping[str, Tensor], patches: Sequence[Patch]) -> Iterator[None]:
        """Inside, the network is the selected one; afterwards it is whole again, whatever happened.

        Args:
            plan: the cuts.
            tensors: buffers to use instead of slices of the stored ones.
            patches: further (store, key, value) to set for the time of the call.
        """
        undo: list[Patch] = []

        def put(store: Store, key: str, value: Any) -> None:
            undo.append((store, key, store.get(key, _ABSENT)))
            store[key] = value

        try:
            for name in plan.cuts:
                store, key = self.stores[name]
                if name not in tensors:
                    put(store, key, self.cut(name, plan, store[key]))
            for name, tensor in tensors.items():
                store, key = self.stores[name]
                put(store, key, tensor.to(store[key].device))
            for layer_name, values in plan.attributes.items():
                for key, value in values.items():
                    put(self.layers[layer_name].__dict__, key, value)
            for name in plan.skipped:
                put(self.layers[name].__dict__, "forward", _unchanged)
            for name, option in plan.chosen.items():
                layer: Any = self.layers[name]
                if option != layer.default:
                    put(layer.__dict__, "forward", layer.way(option))
            for store, key, value in patches:
                put(store, key, value)
            yield
        finally:
            for store, key, old in reversed(undo):
                if old is _ABSENT:
                    del store[key]
                else:
                    store[key] = old


_ABSENT = object()


def _unchanged(x: Tensor) -> Tensor:
    """The forward of a skipped block."""
    return x


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """The state dict without what is no tensor (extra state)."""
    return {name: value for name, value in network.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def _member_positions(group: ChannelGroup) -> list[tuple[tuple[str, int], np.ndarray]]:
    return [((m.name, m.axis), np.asarray(m.positions_UK, dtype=np.int64)) for m in group.members]
