"""Which tensors get a Q/DQ pair: onnxruntime's post-training rules, said without running it.

One pass over the nodes in order, as the quantizer does it. A layer marks its input, its output and its weights; an
activation after a marked tensor disappears into the clamp where the zero point allows it; an operator that only moves
values takes over the scale of its input. Source: the behaviour of `onnxruntime.quantization` 1.31 in QDQ format;
a test holds both against each other over the whole zoo.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper, numpy_helper

from mtnas.quantize.dialects import Dialect
from mtnas.quantize.regions import Wiring


@dataclass(frozen=True)
class Mark:
    """How one tensor is quantized.

    Args:
        like: tensor whose scale and zero point it takes; empty for its own.
        weight: a stored weight (int8, symmetric); stored operands of additions and products count as activations.
        axis: axis of the output channels of a weight that has one scale per channel.
    """

    like: str = ""
    weight: bool = False
    axis: int | None = None


@dataclass(frozen=True)
class Bias:
    """A bias stored as int32, with the scale of input times weight."""

    node: str
    name: str
    image: str
    weight: str
    beta: float


@dataclass(frozen=True)
class Marks:
    """Everything the quantizer decides before it looks at numbers.

    Args:
        tensors: marks by tensor.
        biases: biases of marked layers.
        absorbed: activations that disappear: their input -> their output.
    """

    tensors: dict[str, Mark]
    biases: tuple[Bias, ...]
    absorbed: dict[str, str]

    def final(self, name: str) -> str:
        """The tensor that a tensor becomes once the activations behind it have disappeared; there may be several."""
        while name in self.absorbed:
            name = self.absorbed[name]
        return name


def mark_tensors(graph: onnx.GraphProto, dialect: Dialect, excluded: Collection[str]) -> Marks:
    """Decide for a float graph with named nodes and inferred types; `excluded` nodes stay in float."""
    marker = _Marker(graph, dialect)
    kept = set(excluded)
    for node in graph.node:
        if node.op_type in (dialect.op_types or _OPERATORS) and node.name not in kept:
            _RULES.get(node.op_type, _every_tensor)(marker, node)
    return Marks(marker.tensors, tuple(marker.biases), marker.absorbed)


class _Marker:
    """The state of the pass."""

    def __init__(self, graph: onnx.GraphProto, dialect: Dialect) -> None:
        self.dialect = dialect
        self.wiring = Wiring.of(graph)
        self.stored = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
        values = (*graph.value_info, *graph.input, *graph.output)
        self.floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT} | set(self.stored)
        self.fixed = {value.name for value in (*graph.input, *graph.output)}
        self.tensors: dict[str, Mark] = {}
        self.biases: list[Bias] = []
        self.absorbed: dict[str, str] = {}

    def mark(self, name: str) -> None:
        if name in self.floats:
            self.tensors.setdefault(name, Mark())

    def mark_output(self, name: str) -> None:
        if self.dialect.quantize_outputs:
            self.mark(name)

    def share(self, name: str, source: str) -> None:
        if name in self.floats:
            self.tensors[name] = Mark(like=source)

    def mark_weight(self, name: str, axis: int) -> None:
        if name not in self.stored:
            self.mark(name)
        elif axis < len(self.stored[name].dims):
            self.tensors[name] = Mark(weight=True, axis=axis)
        else:
            self.tensors.setdefault(name, Mark(weight=True))

    def mark_bias(self, node: onnx.NodeProto, beta: float = 1.0) -> None:
        if len(node.input) > 2 and node.input[2] in self.stored and self.dialect.quantize_bias:
            self.biases.append(Bias(node.name, node.input[2], node.input[0], node.input[1], beta))

    def attribute(self, node: onnx.NodeProto, name: str, default: float | bytes) -> float | bytes:
        found = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
        return found[0] if found else default


def _every_tensor(marker: _Marker, node: onnx.NodeProto) -> None:
    for name in node.input:
        marker.mark(name)
    for name in node.output:
        marker.mark_output(name)


def _convolution(marker: _Marker, node: onnx.NodeProto) -> None:
    marker.mark(node.input[0])
    marker.mark_output(node.output[0])
    marker.mark_weight(node.input[1], 0 if node.op_type == "Conv" else 1)
    marker.mark_bias(node)


def _gemm(marker: _Marker, node: onnx.NodeProto) -> None:
    marker.mark(node.input[0])
    marker.mark_output(node.output[0])
    marker.mark_weight(node.input[1], 0 if marker.attribute(node, "transB", 0) else 1)
    marker.mark_bias(node, float(marker.attribute(node, "beta", 1.0)))


def _matmul(marker: _Marker, node: onnx.NodeProto) -> None:
    for name in node.input:
        if name in marker.stored:
            marker.mark_weight(name, 1)
        else:
            marker.mark(name)
    marker.mark_output(node.output[0])


def _norm(marker: _Marker, node: onnx.NodeProto) -> None:
    marker.mark(node.input[0])
    marker.mark_weight(node.input[1], 1)
    marker.mark_bias(node)
    for name in node.output:
        marker.mark_output(name)


def _activation(marker: _Marker, node: onnx.NodeProto) -> None:
    """Absorbed by the quantizer behind it where a zero point can clamp and nobody else reads its input."""
    source, result = node.input[0], node.output[0]
    if source not in marker.tensors:
        return
    alone = len(marker.wiring.consumers[source]) == 1 and source not in marker.fixed
    if alone and not marker.dialect.symmetric:
        marker.absorbed[source] = result
        del marker.tensors[source]
    marker.mark_output(result)


def _moved(marker: _Marker, node: onnx.NodeProto) -> None:
    if node.input[0] in marker.tensors and marker.dialect.quantize_outputs:
        marker.share(node.output[0], node.input[0])


def _split(marker: _Marker, node: onnx.NodeProto) -> None:
    marker.mark(node.input[0])
    for name in node.output if marker.dialect.quantize_outputs else ():
        marker.share(name, node.input[0])


def _gather(marker: _Marker, node: onnx.NodeProto) -> None:
    if node.input[0] in marker.stored:
        marker.mark(node.input[0])
    if node.input[0] in marker.tensors:
        marker.share(node.output[0], node.input[0])


def _where(marker: _Marker, node: onnx.NodeProto) -> None:
    if all(name in marker.tensors for name in node.input[1:3]):
        marker.mark_output(node.output[0])


def _pad(marker: _Marker, node: onnx.NodeProto) -> None:
    for name in node.input:
        marker.mark(name)
    if not marker.dialect.quantize_outputs:
        return
    value = marker.stored.get(node.input[2]) if len(node.input) > 2 else None
    zero = value is None and len(node.input) < 3
    zero = zero or (value is not None and not numpy_helper.to_array(value).any())
    if marker.attribute(node, "mode", b"constant") != b"constant" or zero:
        marker.share(node.output[0], node.input[0])
    else:
        marker.mark(node.output[0])


_RULES: dict[str, Callable[[_Marker, onnx.NodeProto], None]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "InstanceNormalization": _norm,
    "LayerNormalization": _norm,
    "BatchNormalization": _norm,
    "Relu": _activation,
    "Clip": _activation,
    "Reshape": _moved,
    "Transpose": _moved,
    "Squeeze": _moved,
    "Unsqueeze": _moved,
    "Flatten": _moved,
    "Resize": _moved,
    "MaxPool": _moved,
    "AveragePool": _moved,
    "Slice": _moved,
    "TopK": _moved,
    "Split": _split,
    "Gather": _gather,
    "GatherElements": _gather,
    "Where": _where,
    "Pad": _pad,
}
#: what the quantizer knows at all; everything else stays in float
_OPERATORS = frozenset(_RULES) | frozenset(
    ("Add", "Mul", "Concat", "Sigmoid", "Softmax", "LeakyRelu", "GlobalAveragePool", "ArgMax", "CumSum")
)
