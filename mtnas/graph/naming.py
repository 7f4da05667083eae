"""Names for what matrix products multiply by, so that their layers are called after the module they belong to.

A convolution reads its weight by the name of the parameter. A linear layer over tokens becomes a product with the
weight's transpose, and a product of two maps (as in attention) reads no weight at all: the exporter numbers both
through the graph (`val_19`), so that a name says nothing, and is another one at another input size. The names are
written into the graph once, when it is exported; graphs that were stored before keep theirs.
"""

from __future__ import annotations

import ast

import onnx

#: where torch's exporter notes the modules around a node, outermost first, then the node's own name
SCOPES = "pkg.torch.onnx.name_scopes"


def name_products(proto: onnx.ModelProto) -> None:
    """Give the right side of every product the name of the layer whose weight it is, or `<module>.matmul`."""
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    fixed = weights | {value.name for value in (*graph.input, *graph.output)}
    makers = {name: node for node in graph.node for name in node.output}
    taken, names = fixed | set(makers), dict[str, str]()
    for node in graph.node:
        right = node.input[1] if node.op_type == "MatMul" else ""
        if right in makers and right not in fixed and right not in names and (wanted := _wanted(node, makers, weights)):
            names[right] = _free(wanted, taken)
            taken.add(names[right])
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]


def _wanted(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], weights: set[str]) -> str:
    """The layer's name; empty where neither a weight nor the exporter's notes tell it."""
    maker = makers[node.input[1]]
    if maker.op_type == "Transpose" and maker.input[0] in weights:
        return maker.input[0].removesuffix(".weight")
    notes = {entry.key: entry.value for entry in node.metadata_props}
    scopes = ast.literal_eval(notes[SCOPES]) if SCOPES in notes else []
    return f"{scopes[-2]}.matmul".lstrip(".") if len(scopes) > 1 else ""


def _free(wanted: str, taken: set[str]) -> str:
    """The name itself, or with the first number that no other value has."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name
