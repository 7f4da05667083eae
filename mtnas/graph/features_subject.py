"""The graph that features are made of: nodes without Q/DQ pairs, which run in 8 bit, which run inside others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import onnx

from mtnas.graph.labels import Labelled, Units
from mtnas.graph.layouts import MAP, Layout, find_layouts
from mtnas.graph.operators import FUSED, TRAFFIC, VIEWS
from mtnas.graph.work import Work

MULTIPLY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Subject:
    """A labelled graph.

    Args:
        nodes: in order; quantizing and dequantizing nodes only where data really changes its type.
        image: the input's name.
        labels: shape and labels of every tensor.
        home: the branch of every tensor.
        stored: names of all arrays that are in the file.
        units: the numbering of the units that labels speak of.
        int8: names of the nodes that run in 8 bit.
    """

    nodes: tuple[onnx.NodeProto, ...]
    image: str
    labels: Mapping[str, Labelled]
    home: Mapping[str, str]
    stored: frozenset[str]
    units: Units
    int8: frozenset[str] = frozenset()

    @cached_property
    def graph(self) -> onnx.GraphProto:
        graph = onnx.GraphProto()
        graph.node.extend(self.nodes)
        return graph

    @cached_property
    def makers(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self.nodes for name in node.output}

    @cached_property
    def uses(self) -> Counter[str]:
        return Counter(name for node in self.nodes for name in node.input)

    @cached_property
    def added(self) -> dict[str, str]:
        """Sum -> the convolution it runs in: the last maker of one of its sides that feeds nothing else."""
        order = {node.name: number for number, node in enumerate(self.nodes)}
        found = {}
        for node in self.nodes:
            sides = [self.makers[name] for name in node.input if name in self.makers and self.uses[name] == 1]
            convolutions = [side for side in sides if side.op_type in ("Conv", "ConvTranspose")]
            if node.op_type == "Add" and convolutions and not self.stored & set(node.input):
                found[node.name] = max(convolutions, key=lambda side: order[side.name]).name
        return found

    @cached_property
    def adders(self) -> frozenset[str]:
        """The convolutions that run a sum."""
        return frozenset(self.added.values())

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """Where channels and positions of every map lie."""
        shapes = {name: tensor.shape for name, tensor in self.labels.items()}
        return find_layouts(self.nodes, self.image, shapes, self.stored)

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """Stored arrays that multiplying nodes read."""
        found = (name for node in self.nodes if node.op_type in MULTIPLY for name in node.input)
        return tuple(dict.fromkeys(name for name in found if name in self.stored))

    def tag(self, node: str) -> str:
        return ".int8" if node in self.int8 else ""


@dataclass(frozen=True)
class Move:
    """One tensor that a node reads or writes.

    Args:
        node: the node's name.
        output: the tensor the node makes.
        name: the feature it counts for, without the last part.
        tensor: its shape and labels.
        bytes_each: of one number.
    """

    node: str
    output: str
    name: str
    tensor: Labelled
    bytes_each: int


def list_moves(subject: Subject, kinds: Mapping[str, str]) -> list[Move]:
    """Every tensor that a node reads or writes; views, and what runs inside the node before, are free.

    Args:
        subject: the graph.
        kinds: names of the kinds of its multiplying nodes, by node.
    """
    found = []
    for node in subject.nodes:
        inside = _runs_inside(subject, node)
        if node.op_type in VIEWS or inside == "free":
            continue
        output = node.output[0]
        moved = [name for name in node.input if name and name not in subject.stored]
        if inside:  # a sum inside a convolution only reads its other side
            moved = [name for name in moved if subject.makers.get(name, node).name != inside]
        else:
            moved += [name for name in node.output if name]
        each = 1 if node.name in subject.int8 else 4
        kind = f"{kinds.get(node.name) or move_kind(subject, node)}{subject.tag(node.name)}@{place_of(subject, output)}"
        family = "class" if node.op_type in MULTIPLY else "move"
        found += [Move(node.name, output, f"{family}/{kind}", subject.labels[name], each) for name in moved]
    return found


def _runs_inside(subject: Subject, node: onnx.NodeProto) -> str:
    """The convolution a sum runs in, `free` for an activation that costs nothing, else empty."""
    if node.name in subject.added:
        return subject.added[node.name]
    maker = subject.makers.get(node.input[0]) if node.input else None
    fused = maker is not None and (maker.op_type in MULTIPLY or maker.name in subject.added)
    return "free" if node.op_type in FUSED and fused else ""


def move_kind(subject: Subject, node: onnx.NodeProto) -> str:
    """Name of the kind of traffic of a node that does not multiply."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return "convert"
    if node.name in subject.added:
        return "add"
    return next((kind for kind, names in TRAFFIC.items() if node.op_type in names), "elementwise")


def whole_kind(subject: Subject, item: Work) -> str:
    """Kind of a fused block: the multiplying node, and the sum inside it."""
    return f"{item.kind}+add" if item.node in subject.adders else item.kind


def layer_name(item: Work) -> str:
    """The weight's name without its ending, quantized or not."""
    return item.layer.removesuffix("_quantized").removesuffix(".weight")


def place_of(subject: Subject, tensor: str) -> str:
    """How much smaller than the image a map is: `/4`; `1` for vectors and single positions, `tokens` for all else."""
    shape, image = subject.labels[tensor].shape, subject.labels[subject.image].shape
    layout = subject.layouts.get(tensor)
    if len(shape) < 3 or len(image) < len(MAP):
        return "1"
    if layout is None:
        return "tokens"
    positions = math.prod(shape[layout.index(axis)] for axis in (2, 3))
    if positions == 1:
        return "1"
    ratio = math.sqrt(math.prod(image[2:]) / positions)
    power = round(math.log2(ratio))
    # Odd sizes are halved upwards: 97 -> 49 -> 25 -> 13 is still /2, /4, /8.
    stride = 2.0**power if abs(math.log2(ratio) - power) < 0.25 else round(ratio, 1)
    return f"/{stride:g}"
