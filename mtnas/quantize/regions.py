"""Parts of an ONNX graph that belong to one head: its output layers, its last up-sampling, its whole branch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import onnx

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Wiring:
    """Who makes and who reads each tensor of a graph."""

    producers: dict[str, onnx.NodeProto]
    consumers: dict[str, list[onnx.NodeProto]]
    initializers: dict[str, int]
    """Stored tensors and their element types."""

    @staticmethod
    def of(graph: onnx.GraphProto) -> Wiring:
        producers = {name: node for node in graph.node for name in node.output}
        consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                consumers[name].append(node)
        return Wiring(producers, dict(consumers), {tensor.name: tensor.data_type for tensor in graph.initializer})

    def inputs_of(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [self.producers[name] for name in node.input if name in self.producers]


def is_layer(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Whether a node multiplies by stored weights."""
    return node.op_type in WEIGHTED and any(_stored(name, wiring) for name in node.input[1:2])


def _stored(name: str, wiring: Wiring) -> bool:
    """An initializer, also behind its own Q/DQ pair."""
    while name not in wiring.initializers:
        maker = wiring.producers.get(name)
        if maker is None or maker.op_type not in {"DequantizeLinear", "QuantizeLinear", "Constant"}:
            return False
        if maker.op_type == "Constant":
            return True
        name = maker.input[0]
    return True


def output_layers(graph: onnx.GraphProto, output: str) -> tuple[list[str], list[str]]:
    """Names of the last weighted layers before an output, and of everything between them and the output."""
    wiring = Wiring.of(graph)
    layers: list[str] = []
    after: list[str] = []
    seen: set[str] = set()
    todo = [wiring.producers[output]] if output in wiring.producers else []
    while todo:
        node = todo.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        if is_layer(node, wiring):
            layers.append(node.name)
            continue
        after.append(node.name)
        todo.extend(wiring.inputs_of(node))
    return layers, after


def reached_from(graph: onnx.GraphProto, outputs: Iterable[str]) -> set[str]:
    """Names of all nodes that some of the outputs depend on."""
    wiring = Wiring.of(graph)
    todo = [wiring.producers[name] for name in outputs if name in wiring.producers]
    seen: set[str] = set()
    while todo:
        node = todo.pop()
        if node.name not in seen:
            seen.add(node.name)
            todo.extend(wiring.inputs_of(node))
    return seen


def branch(graph: onnx.GraphProto, output: str) -> list[str]:
    """Names of the nodes that only this output depends on: one task's decoder."""
    others = reached_from(graph, [value.name for value in graph.output if value.name != output])
    mine = reached_from(graph, [output])
    return [node.name for node in graph.node if node.name in mine - others]


def shared(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that several outputs depend on: the shared encoder."""
    reached = [reached_from(graph, [value.name]) for value in graph.output]
    return [node.name for node in graph.node if sum(node.name in names for names in reached) > 1]


def last_upsampling(graph: onnx.GraphProto, output: str) -> list[str]:
    """Names of the Resize nodes between an output and its last weighted layers."""
    after = set(output_layers(graph, output)[1])
    return [node.name for node in graph.node if node.name in after and node.op_type == "Resize"]
