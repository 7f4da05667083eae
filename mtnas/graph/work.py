"""The nodes that multiply and add, one record each: what counting and latency features are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from mtnas.graph.follow import attributes_of
from mtnas.graph.labels import BATCH, Labelled, unsupported
from mtnas.graph.rows import ONE, RowTable


@dataclass(frozen=True)
class Work:
    """Multiply-adds of one node on one image: factor * lengths[out] * lengths[into] * lengths[more].

    Args:
        node: its name.
        layer: its weight's name, `.weight` left off.
        output: the tensor it makes.
        kind: such as `conv3x3s2`, `depthwise3x3`, `linear`.
        place: height x width of the output, `1` for vectors.
        out, into, more: rows of the output channels, of the input channels each output sums over, and a third axis.
        factor: all that does not change.
    """

    node: str
    layer: str
    output: str
    kind: str
    place: str
    out: int
    into: int
    more: int
    factor: int


def list_work(graph: onnx.GraphProto, labels: Mapping[str, Labelled], rows: RowTable) -> list[Work]:
    makers = {"Conv": _conv, "ConvTranspose": _conv, "Gemm": _gemm, "MatMul": _matmul}
    return [makers[node.op_type](node, labels, rows) for node in graph.node if node.op_type in makers]


def _conv(node: onnx.NodeProto, labels: Mapping[str, Labelled], rows: RowTable) -> Work:
    image, weight, result = (labels[name] for name in (node.input[0], node.input[1], node.output[0]))
    transposed = node.op_type == "ConvTranspose"
    attributes = attributes_of(node)
    groups, kernel = int(attributes.get("group", 1)), weight.shape[2:]  # type: ignore[call-overload]
    # Every input position of a transposed convolution, every output position of a plain one, meets the whole kernel.
    factor = math.prod(kernel) * math.prod(image.shape[2:] if transposed else result.shape[2:])
    if transposed:
        out, into = rows.axis(weight, 1), rows.axis(image, 1)
    else:
        out, into = rows.axis(result, 1), rows.axis(weight, 1)
    single = weight.shape[1] == 1 and groups > 1
    name = "deconv" if transposed else "depthwise" if single else "conv" if groups == 1 else "grouped"
    strides = attributes.get("strides", [1])
    step = max(int(s) for s in strides)  # type: ignore[attr-defined]
    kind = f"{name}{'x'.join(map(str, kernel))}" + (f"s{step}" if step > 1 else "")
    return Work(node.name, _layer(node), node.output[0], kind, _place(result), out, into, ONE, factor)


def _gemm(node: onnx.NodeProto, labels: Mapping[str, Labelled], rows: RowTable) -> Work:
    left, result = labels[node.input[0]], labels[node.output[0]]
    inner = 0 if attributes_of(node).get("transA", 0) else 1
    out, into, more = rows.axis(result, 1), rows.axis(left, inner), rows.axis(result, 0)
    return Work(node.name, _layer(node), node.output[0], "linear", "1", out, into, *_third(result, 0, more, rows))


def _third(tensor: Labelled, axis: int, row: int, rows: RowTable) -> tuple[int, int]:
    """The row of a third axis, or a factor where that axis is the batch."""
    return (row, 1) if axis in tensor.axes else (ONE, tensor.shape[axis])


def _matmul(node: onnx.NodeProto, labels: Mapping[str, Labelled], rows: RowTable) -> Work:
    left, result = labels[node.input[0]], labels[node.output[0]]
    rank = len(result.shape)
    out, into = rows.axis(result, rank - 1), rows.axis(left, len(left.shape) - 1)
    lead = [axis for axis in range(rank - 1) if axis in result.axes]
    free = [axis for axis in lead if not rows.is_batch(result, axis)]
    if len(free) > 1:
        raise unsupported("a product with two axes that shrink beside its columns", f"MatMul node {node.name!r}")
    images = math.prod(result.shape[axis] // BATCH for axis in lead if axis not in free)
    factor = images * math.prod(size for axis, size in enumerate(result.shape[:-1]) if axis not in lead)
    more = rows.axis(result, free[0]) if free else ONE
    kind, place = ("linear", "1") if rank == 2 else ("matmul", str(result.shape[-2]))
    return Work(node.name, _layer(node), node.output[0], kind, place, out, into, more, factor)


def _place(result: Labelled) -> str:
    return "x".join(map(str, result.shape[2:])) or "1"


def _layer(node: onnx.NodeProto) -> str:
    return node.input[1].removesuffix(".weight")
