"""Which tensors are maps, and where their channels and positions lie: told by the operators, never by the lengths.

Convolutions, poolings and resizes read and make maps (B,C,H,W). What is computed with maps position by position is one
as well, also with its axes in another order (channels last). What comes out of a `Reshape` is one only where a
convolution or the like reads it: heads x channels of attention look like height x width, and shrink with the heads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import onnx

from mtnas.graph.follow import attributes_of
from mtnas.graph.operators import ELEMENTWISE, KEEPS_AXES, REDUCTIONS

#: The axis of (B,C,H,W) that each axis of a tensor holds.
Layout = tuple[int, ...]
MAP: Layout = (0, 1, 2, 3)

#: The first input and the output are maps.
_SPATIAL = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "AveragePool",
        "MaxPool",
        "LpPool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Resize",
        "Upsample",
        "GridSample",
        "LRN",
        "BatchNormalization",
        "InstanceNormalization",
        "DepthToSpace",
        "SpaceToDepth",
    ]
)
#: The axes go on as they are.
_ALONG = (
    ELEMENTWISE
    | (KEEPS_AXES - _SPATIAL)
    | REDUCTIONS
    | frozenset(["Concat", "Split", "Slice", "Expand", "Tile", "LayerNormalization", "RMSNormalization"])
    | {"QuantizeLinear", "DequantizeLinear"}
)


def find_layouts(
    nodes: Iterable[onnx.NodeProto], image: str, shapes: Mapping[str, tuple[int, ...]], stored: Collection[str]
) -> dict[str, Layout]:
    """The layout of every tensor that is a map.

    Args:
        nodes: of one graph, in order.
        image: the input's name.
        shapes: of every tensor.
        stored: names of the arrays that are in the file.
    """
    nodes = list(nodes)
    found = {image: MAP}
    for node in nodes:
        if node.op_type in _SPATIAL:
            found |= dict.fromkeys((node.input[0], *node.output), MAP)
    found = {name: layout for name, layout in found.items() if len(shapes.get(name, ())) == len(MAP)}
    links = [link for node in nodes for link in _links(node, shapes, stored)]
    before = 0
    while len(found) > before:
        before = len(found)
        for source, result, order in links:
            if source in found:
                found.setdefault(result, tuple(found[source][axis] for axis in order))
        for source, result, order in reversed(links):
            if result in found:
                found.setdefault(source, tuple(found[result][order.index(axis)] for axis in range(len(MAP))))
    return found


def _links(
    node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], stored: Collection[str]
) -> list[tuple[str, str, Layout]]:
    """(input, output, the input's axis that each axis of the output holds), where positions stay apart."""
    inputs, order = list(node.input), MAP
    if node.op_type == "Transpose":
        raw = attributes_of(node).get("perm", MAP[::-1])
        order = tuple(int(axis) for axis in raw)  # type: ignore[attr-defined]
    elif node.op_type == "MatMul" and node.input[1] in stored:
        inputs = inputs[:1]
    elif node.op_type not in _ALONG:
        return []
    pairs = [(source, result) for source in inputs for result in node.output if source not in stored]
    return [(*pair, order) for pair in pairs if all(len(shapes.get(name, ())) == len(MAP) for name in pair)]
