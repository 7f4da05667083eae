"""The slicing plan: all about a graph that does not depend on the selection, worked out once when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from mtnas.base.groups import ChannelGroup
from mtnas.graph.derive import Derived, constant_arrays, take_derived
from mtnas.graph.fold import Fold, find_folds
from mtnas.graph.fold_inputs import InputFold, find_input_folds
from mtnas.graph.labels import Labelled, Units
from mtnas.graph.network import Network, make_network
from mtnas.graph.sanitise import Patch, drop_unused, sanitise


@dataclass(frozen=True)
class BlockPatch:
    """The `group` attribute of a convolution that loses whole blocks: the kept ones among the first of each block."""

    node: int
    attribute: int
    firsts: np.ndarray

    def value(self, mask: np.ndarray) -> int:
        return int(mask[self.firsts].sum())


@dataclass(frozen=True)
class Variant:
    """The graph with its batch-norms folded, or not.

    Args:
        skeleton: nodes and constants, without weights.
        reads: names of the arrays to be written as initializers.
        inputs, folds: what to compute first, in this order.
        blocks: `group` attributes to set.
        labels: of every tensor, the folded weights among them.
    """

    skeleton: onnx.ModelProto
    reads: tuple[str, ...]
    inputs: tuple[InputFold, ...]
    folds: tuple[Fold, ...]
    blocks: tuple[BlockPatch, ...]
    labels: Mapping[str, Labelled]


@dataclass(frozen=True)
class Plan:
    """What `cut` and `counts` look up."""

    network: Network
    units: Units
    patches: tuple[Patch, ...]
    constants: Mapping[str, np.ndarray]
    derived: tuple[Derived, ...]
    plain: Variant
    folded: Variant

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        return self.network.weights

    @property
    def labels(self) -> Mapping[str, Labelled]:
        return self.network.labels


def make_plan(skeleton: onnx.ModelProto, weights: Mapping[str, np.ndarray], groups: Sequence[ChannelGroup]) -> Plan:
    """Follow the groups, clean the constants, find what can be folded. The skeleton is cleaned in place."""
    network = make_network(skeleton, weights, groups)
    patches = sanitise(skeleton, network.labels)
    bare = onnx.ModelProto()
    bare.CopyFrom(skeleton)
    constants = constant_arrays(bare)
    derived = take_derived(bare, set(weights))
    drop_unused(bare, constants)
    arrays = set(weights) | {item.name for item in derived}
    plain = _variant(bare, network.labels, arrays, fold=False)
    folded = _variant(bare, network.labels, arrays, fold=True)
    return Plan(network, network.units, patches, constants, derived, plain, folded)


def _variant(bare: onnx.ModelProto, labels: Mapping[str, Labelled], arrays: set[str], *, fold: bool) -> Variant:
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(bare)
    known, names = dict(labels), set(arrays)
    inputs = find_input_folds(skeleton.graph, labels, arrays) if fold else ()
    for vector in (item for item in inputs if item.out_bias):
        known[vector.out_bias] = _per_channel(labels[vector.channels])
        names.add(vector.out_bias)
    folds = find_folds(skeleton.graph, known, names) if fold else ()
    for item in folds:
        known[item.out_weight] = labels[item.weight]
        known[item.out_bias] = _per_channel(labels[item.channels])
        names |= {item.out_weight, item.out_bias}
    order = dict.fromkeys(name for node in skeleton.graph.node for name in node.input if name in names)
    return Variant(skeleton, tuple(order), inputs, folds, tuple(_blocks(skeleton.graph, known)), known)


def _per_channel(channels: Labelled) -> Labelled:
    """One number for each channel of a map."""
    return Labelled((channels.shape[1],), {0: channels.axes[1]} if 1 in channels.axes else {})


def _blocks(graph: onnx.GraphProto, labels: Mapping[str, Labelled]) -> list[BlockPatch]:
    found = []
    for number, node in enumerate(graph.node):
        place = next((i for i, attribute in enumerate(node.attribute) if attribute.name == "group"), None)
        if place is None or node.attribute[place].i == 1:
            continue
        blocks = labels[node.input[0]].axis(1).reshape(node.attribute[place].i, -1)
        if not (blocks == blocks[:1]).all():
            found.append(BlockPatch(number, place, blocks[:, 0]))
    return found
