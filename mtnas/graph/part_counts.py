"""What each part of a finished ONNX file costs by count: multiply-adds, bytes of weights, bytes moved.

A part is the set of nodes that serve the same tasks: all of them (shared encoder), one (its decoder), or some (glue
between a few tasks). Every node and every weight belongs to exactly one part, so the parts add up to the whole.

Bytes moved are what a part reads and writes as activations for one image when every node runs by itself. An
activation function behind a multiplying layer runs inside it and a reshape moves nothing, hence both are free. In an
int8 file a tensor is counted in the type it is stored in between its quantizer and its reader.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from onnx import helper, numpy_helper

from mtnas.graph.branches import reachable_outputs
from mtnas.graph.count_model import node_macs, static_shapes
from mtnas.graph.operators import FUSED, VIEWS

_MULTIPLY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_FREE = VIEWS | {_QUANTIZE, _DEQUANTIZE, "Constant", "Shape"}


@dataclass(frozen=True)
class PartCounts:
    """Costs of one part, counted.

    Args:
        tasks: the tasks it serves, in the network's order.
        macs: multiply-adds for one image.
        weight_bytes: bytes of its initializers.
        moved_bytes: activations read and written for one image.
    """

    tasks: tuple[str, ...]
    macs: int
    weight_bytes: int
    moved_bytes: int


def count_parts(model: onnx.ModelProto) -> tuple[PartCounts, ...]:
    """All parts that hold a node, those of many tasks first, then in the tasks' order."""
    graph, shapes = model.graph, static_shapes(model)
    owners = node_tasks(graph)
    traffic = _Traffic(model, shapes)
    macs: Counter[frozenset[str]] = Counter()
    moved: Counter[frozenset[str]] = Counter()
    weights: Counter[frozenset[str]] = Counter()
    readers: dict[str, frozenset[str]] = {}
    for node, tasks in zip(graph.node, owners, strict=True):
        macs[tasks] += node_macs(node, shapes)
        moved[tasks] += traffic.bytes_of(node)
        for name in node.input:
            readers[name] = readers.get(name, frozenset()) | tasks
    for tensor in graph.initializer:
        if readers.get(tensor.name):
            weights[readers[tensor.name]] += numpy_helper.to_array(tensor).nbytes
    names = [output.name for output in graph.output]
    found = {tasks for counter in (macs, moved, weights) for tasks, amount in counter.items() if amount and tasks}
    return tuple(
        PartCounts(_in_order(tasks, names), macs[tasks], weights[tasks], moved[tasks])
        for tasks in sorted(found, key=lambda tasks: (-len(tasks), [names.index(n) for n in _in_order(tasks, names)]))
    )


def node_tasks(graph: onnx.GraphProto) -> list[frozenset[str]]:
    """For every node, the outputs that need it."""
    reached = reachable_outputs(graph)
    none: frozenset[str] = frozenset()
    return [none.union(*(reached.get(name, none) for name in node.output)) for node in graph.node]


def _in_order(tasks: Iterable[str], names: list[str]) -> tuple[str, ...]:
    return tuple(sorted(tasks, key=names.index))


class _Traffic:
    """Bytes that nodes read and write, as the tensors are really stored."""

    def __init__(self, model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.shapes = shapes
        self.still = {tensor.name for tensor in graph.initializer}
        values = (*graph.input, *graph.value_info, *graph.output)
        self.sizes = {value.name: _itemsize(value.type.tensor_type.elem_type) for value in values}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
            if node.op_type in ("Constant", _DEQUANTIZE) and all(name in self.still for name in node.input if name):
                self.still.update(node.output)
        self.outputs = {output.name for output in graph.output}

    def bytes_of(self, node: onnx.NodeProto) -> int:
        """What one node reads and writes; weights are not counted."""
        if node.op_type in _FREE or self._fused(node):
            return 0
        read = {self._source(name) for name in node.input if name and name not in self.still}
        written = {self._stored(name) for name in node.output if name}
        return sum(self._bytes(name) for name in (*read, *written))

    def _bytes(self, name: str) -> int:
        return math.prod(self.shapes[name]) * self.sizes.get(name, 4)

    def _fused(self, node: onnx.NodeProto) -> bool:
        maker = self.makers.get(node.input[0]) if node.input else None
        return node.op_type in FUSED and maker is not None and maker.op_type in _MULTIPLY

    def _source(self, name: str) -> str:
        """The stored tensor behind a read one: in front of dequantizers and views."""
        maker = self.makers.get(name)
        while maker is not None and maker.op_type in {_DEQUANTIZE, *VIEWS} and maker.input[0] not in self.still:
            name, maker = maker.input[0], self.makers.get(maker.input[0])
        return name

    def _stored(self, name: str) -> str:
        """The tensor as it is kept: behind the one activation or quantizer that reads it."""
        while name not in self.outputs and len(self.readers.get(name, ())) == 1:
            (reader,) = self.readers[name]
            if reader.op_type != _QUANTIZE and not self._fused(reader):
                break
            name = reader.output[0]
        return name


def _itemsize(kind: int) -> int:
    return int(helper.tensor_dtype_to_np_dtype(kind).itemsize) if kind else 4
