"""Features of any finished ONNX graph, float or with Q/DQ pairs: the slow and general sister of the table.

A graph that was cut from an elastic graph gets the same names and numbers as `ElasticGraph.features` gives. Q/DQ pairs
are no work: they tell which nodes run in 8 bit, except where 8-bit and float parts meet and data really is converted.
Blocks that a cut leaves out are simply not there; a grouped convolution that keeps one channel a block is a depthwise
one here, and still a grouped one in the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from mtnas.base.groups import Selection
from mtnas.graph.branches import tensor_branches
from mtnas.graph.count_model import static_shapes
from mtnas.graph.features import make_table
from mtnas.graph.features_subject import MULTIPLY, Subject
from mtnas.graph.labels import Labelled, Units
from mtnas.graph.operators import FUSED, VIEWS

TO_INT8, TO_FLOAT = "QuantizeLinear", "DequantizeLinear"


def describe(model: onnx.ModelProto) -> dict[str, float]:
    """Features of one network by name; see `mtnas.graph.features` for the names.

    Args:
        model: static shapes, or only the batch open, which counts as one image.
    """
    table = make_table(subject_of(model))
    return dict(zip(table.names, table.values(Selection(())).tolist(), strict=True))


def stack(
    described: Sequence[Mapping[str, float]], names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names, and a matrix (networks, features); what a network lacks is zero.

    Args:
        described: from `describe`.
        names: of the columns; all that occur, in order of first use, when not given.
    """
    found = tuple(dict.fromkeys(name for one in described for name in one)) if names is None else tuple(names)
    return found, np.asarray([[one.get(name, 0.0) for name in found] for one in described])


def subject_of(model: onnx.ModelProto) -> Subject:
    """Nodes of a finished graph without idle Q/DQ pairs."""
    graph = model.graph
    stored = frozenset(tensor.name for tensor in graph.initializer)
    shapes = static_shapes(model)
    nodes = [_named(node, number) for number, node in enumerate(graph.node)]
    int8 = _int8_nodes(nodes, stored)
    image = next(value.name for value in graph.input if value.name not in stored)
    return Subject(
        tuple(_without_pairs(nodes, int8, stored, {value.name for value in graph.output})),
        image,
        {name: Labelled(shape) for name, shape in shapes.items()},
        tensor_branches(graph),
        stored,
        Units(()),
        int8,
    )


def _named(node: onnx.NodeProto, number: int) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = f"{node.name or node.op_type}#{number}"
    return copy


def _int8_nodes(nodes: Sequence[onnx.NodeProto], stored: frozenset[str]) -> frozenset[str]:
    """Nodes whose activations, and weights if they multiply, all arrive dequantized; views pass on what they get."""
    dequantized: set[str] = set()
    found = set()
    for node in nodes:
        if node.op_type == TO_FLOAT:
            dequantized.update(node.output)
        arriving = [name for name in node.input if name and name not in stored]
        arriving = node.input[:2] if node.op_type in MULTIPLY else arriving
        if node.op_type == TO_INT8 or not arriving or not dequantized.issuperset(arriving):
            continue
        if node.op_type in VIEWS:
            dequantized.update(node.output)
        elif node.op_type != TO_FLOAT:
            found.add(node.name)
    return frozenset(found)


def _without_pairs(
    nodes: Sequence[onnx.NodeProto], int8: frozenset[str], stored: frozenset[str], outputs: set[str]
) -> list[onnx.NodeProto]:
    """The nodes, reading what the pairs before them read; a conversion between float and 8 bit stays, once."""
    origin: dict[str, str] = {}
    in_float = outputs | {
        name
        for node in nodes
        if node.name not in int8 and node.op_type not in (TO_INT8, TO_FLOAT)
        for name in node.input
    }
    made_int8 = {name for node in nodes if node.name in int8 for name in node.output}
    kept = []
    for node in nodes:
        if node.op_type not in (TO_INT8, TO_FLOAT):
            node.input[:] = [origin.get(name, name) for name in node.input]
            if node.op_type in FUSED | VIEWS and node.input[0] in made_int8:
                made_int8.update(node.output)  # its result is quantized in the same kernel
            kept.append(node)
            continue
        source = origin.get(node.input[0], node.input[0])
        origin[node.output[0]] = source
        if source in stored:
            continue
        quantizes = node.op_type == TO_INT8 and source not in made_int8
        if quantizes or (node.op_type == TO_FLOAT and node.output[0] in in_float):
            kept.append(onnx.helper.make_node(node.op_type, [source], [node.output[0]], name=node.name))
            origin[node.output[0]] = node.output[0]
    return kept
