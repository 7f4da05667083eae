"""Costs of a finished ONNX file, read off that file alone: the second opinion to `count`, and shares no code with it.

Same conventions: one image, a multiply-add counts once, convolutions, linear layers and matrix products count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.errors import InternalError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ModelCounts:
    """What a file costs.

    Args:
        macs: multiply-adds for one image.
        weights: elements of all floating-point initializers.
        size_mb: bytes of all initializers / 1e6.
        activation_peak_mb: largest sum of tensors alive at once, nodes run in order, activations in place.
    """

    macs: int
    weights: int
    size_mb: float
    activation_peak_mb: float


def count_model(model: onnx.ModelProto) -> ModelCounts:
    """Count a model with static shapes (or only its batch open, which counts as one)."""
    shapes = static_shapes(model)
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return ModelCounts(
        macs=sum(node_macs(node, shapes) for node in model.graph.node),
        weights=sum(array.size for array in arrays if array.dtype.kind == "f"),
        size_mb=sum(array.nbytes for array in arrays) / 1e6,
        activation_peak_mb=peak_bytes(model.graph, shapes) / 1e6,
    )


def static_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors for one image, from onnx's own shape inference."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in [*fixed.graph.input, *fixed.graph.output]:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].HasField("dim_param"):
            dims[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    missing = [name for node in graph.node for name in node.output if name and name not in shapes]
    if missing:
        raise InternalError(f"no shape for {missing[:3]}")
    return shapes


def node_macs(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Multiply-adds of one node."""
    out = shapes[node.output[0]]
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "MatMul":
        return math.prod(out) * shapes[node.input[0]][-1]
    if node.op_type == "Gemm":
        flipped = any(a.name == "transA" and helper.get_attribute_value(a) for a in node.attribute)
        return math.prod(out) * shapes[node.input[0]][0 if flipped else 1]
    return 0


def peak_bytes(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Run the nodes in order, keep what somebody will still read, and remember the fullest moment."""
    views = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
    stored = {tensor.name for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    base: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in views and node.output[0] not in outputs:
            base[node.output[0]] = base.get(node.input[0], node.input[0])
    readers: dict[str, int] = dict.fromkeys(outputs, 1)
    for node in graph.node:
        for name in {base.get(n, n) for n in node.input if n}:
            readers[name] = readers.get(name, 0) + 1
    held = {value.name: _bytes(shapes[value.name]) for value in graph.input}
    peak = 0
    for node in graph.node:
        sources = {base.get(n, n) for n in node.input if n} - stored
        made = {n: _bytes(shapes[n]) for n in node.output if n and n not in base}
        first = base.get(node.input[0], node.input[0]) if node.input else ""
        reused = node.op_type in IN_PLACE and readers.get(first) == 1 and first in held and not _is_input(graph, first)
        held.update(made)
        peak = max(peak, sum(held.values()) - (held[first] if reused else 0))
        for name in sources:
            readers[name] -= 1
        held = {name: size for name, size in held.items() if readers.get(name, 0) > 0}
    return peak


IN_PLACE = (
    *("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid"),
    *("HardSwish", "Tanh", "Elu", "Gelu", "Softplus", "Mish"),
)


def _is_input(graph: onnx.GraphProto, name: str) -> bool:
    return any(value.name == name for value in graph.input)


def _bytes(shape: tuple[int, ...]) -> int:
    return math.prod(shape) * helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT).itemsize
