"""Does it run as int8? The optimised session graph, read back node by node.

onnxruntime fuses at load time, so the file alone says nothing: a session is made, its optimised graph is written to a
temporary file for reading only (it holds machine-specific nodes and is never shipped), and every computing node of it
is either integer or float with a reason. Source of the fusion rules: onnxruntime's QDQ selectors for the CPU.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from mtnas.base.errors import VerificationFailed
from mtnas.quantize.regions import WEIGHTED, Wiring
from mtnas.quantize.session import open_session

INTEGER_OPS = frozenset({"QGemm", "MatMulInteger", "ConvInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"})
#: shape handling, layout and conversions: nothing of this is a layer of the network
MOVING = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Slice"}
    | {"Gather", "Identity", "Cast", "Constant", "ConstantOfShape", "Expand", "Pad", "ReorderInput", "ReorderOutput"}
)
LAYERS = frozenset({"Conv", "ConvTranspose", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
#: what the runtime fuses into the layer before it
FUSED_BEHIND = frozenset({"Relu", "Clip", "Add", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"})
#: what the x64 CPU provider can run on integers (by operator of the file)
HAS_INTEGER_KERNEL = frozenset(
    {"Conv", "MatMul", "Gemm", "Add", "Mul", "Concat", "Split", "AveragePool", "GlobalAveragePool", "LeakyRelu"}
    | {"Sigmoid", "Softmax", "Where", "MaxPool", "Resize", "ReduceMax", "ReduceMin"}
)
_EIGHT_BIT = {onnx.TensorProto.UINT8, onnx.TensorProto.INT8}
_SUFFIX = re.compile(r"(_token_\d+|_nchwc|/duplicated)+$")


@dataclass(frozen=True)
class FloatNode:
    """One computing node that runs in float, and why."""

    name: str
    op: str
    why: str


@dataclass(frozen=True)
class Int8Report:
    """What the optimised graph runs on integers, and what in float."""

    int8: tuple[tuple[str, str], ...]
    floats: tuple[FloatNode, ...]
    conversions: int
    operators: tuple[tuple[str, int], ...]

    @property
    def int8_nodes(self) -> int:
        return len(self.int8)

    @property
    def float_layers(self) -> tuple[FloatNode, ...]:
        """Convolutions and matrix products that run in float."""
        return tuple(node for node in self.floats if node.op in LAYERS)

    @property
    def without_kernel(self) -> tuple[str, ...]:
        """Names of layers that this runtime can only run in float, whatever the file says."""
        return tuple(n.name for n in self.float_layers if n.op.removeprefix("Fused") not in HAS_INTEGER_KERNEL)

    def require_int8(self, excluded: Collection[str] = ()) -> None:
        """Raise `VerificationFailed` when a layer runs in float that was not meant to."""
        wrong = [node for node in self.float_layers if node.name not in excluded]
        if wrong:
            raise VerificationFailed(
                "every convolution and matrix product runs as int8",
                received="; ".join(f"{node.name} ({node.op}): {node.why}" for node in wrong[:5]),
                where=f"quantized model, {len(wrong)} of {len(wrong) + self.int8_nodes} nodes in float",
                cure="name them in quantize.float_nodes, or set quantize.enabled: false",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "int8_nodes": self.int8_nodes,
            "float_nodes": [asdict(node) for node in self.floats],
            "conversions": self.conversions,
            "operators": dict(self.operators),
        }


def int8_report(model: onnx.ModelProto, excluded: Collection[str] = ()) -> Int8Report:
    """Read back what onnxruntime will run.

    Args:
        model: quantized file (a float one gives a report of float nodes).
        excluded: nodes that were kept in float on purpose, as `float_nodes` names them.
    """
    ran = optimised(model)
    wiring, ran_wiring = Wiring.of(model.graph), Wiring.of(ran.graph)
    sources = {node.name: node for node in model.graph.node}
    types = _eight_bit_tensors(ran)
    int8: list[tuple[str, str]] = []
    floats: list[FloatNode] = []
    for node in ran.graph.node:
        if _is_integer(node, types):
            int8.append((_plain(node.name), node.op_type))
        elif node.op_type not in MOVING and not _shape_arithmetic(node, ran_wiring):
            source = _layer_behind(node, _source_of(node, sources, wiring), wiring)
            why = _why(source, wiring, excluded) if source is not None else "the runtime made it from another operator"
            name = source.name if source is not None else node.name or node.output[0]
            floats.append(FloatNode(name, node.op_type, why))
    conversions = sum(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in ran.graph.node)
    operators = Counter(node.op_type for node in ran.graph.node)
    return Int8Report(tuple(int8), tuple(floats), conversions, tuple(sorted(operators.items())))


def optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph after all of onnxruntime's optimisations on this machine; for reading, never for shipping."""
    with tempfile.TemporaryDirectory(prefix="mtnas-int8-") as folder:
        path = Path(folder) / "optimised.onnx"
        open_session(model, optimised_to=path)
        return onnx.load_model(str(path))


def _eight_bit_tensors(ran: onnx.ModelProto) -> set[str]:
    """Names of the 8-bit tensors: made by a quantizer or an integer node, or handed on by a node that keeps bytes."""
    found = {tensor.name for tensor in ran.graph.initializer if tensor.data_type in _EIGHT_BIT}
    for node in ran.graph.node:
        made = node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear")
        made = made or (node.op_type == "QGemm" and len(node.input) == 9)
        kept = node.op_type not in {"DequantizeLinear", "Shape"} and bool(node.input) and node.input[0] in found
        if made or (kept and node.op_type not in INTEGER_OPS):
            found.update(node.output)
    return found


def _is_integer(node: onnx.NodeProto, eight_bit: set[str]) -> bool:
    if node.op_type.startswith("QLinear") or node.op_type in INTEGER_OPS:
        return True
    return node.op_type not in MOVING and bool(node.input) and node.input[0] in eight_bit


def _shape_arithmetic(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Whether a node computes with shapes (behind a Shape node) and not with the image."""
    todo, seen = [node], set[str]()
    while todo:
        current = todo.pop()
        for maker in wiring.inputs_of(current):
            if maker.op_type != "Shape" and maker.output[0] not in seen:
                seen.add(maker.output[0])
                todo.append(maker)
        reads_image = any(name not in wiring.producers and name not in wiring.initializers for name in current.input)
        if reads_image:
            return False
    return True


def _plain(name: str) -> str:
    return _SUFFIX.sub("", name)


def _source_of(node: onnx.NodeProto, sources: dict[str, onnx.NodeProto], wiring: Wiring) -> onnx.NodeProto | None:
    """The node of the file behind an optimised one: by name, by tensor, or by the longest name inside its own."""
    for name in (node.name, _plain(node.name)):
        if name in sources:
            return sources[name]
    for tensor in (*node.output, _plain(node.name), *map(_plain, node.output)):
        if tensor in wiring.producers:
            return wiring.producers[tensor]
    inside = [name for name in sources if name and name in node.name]
    return sources[max(inside, key=len)] if inside else None


def _layer_behind(node: onnx.NodeProto, source: onnx.NodeProto | None, wiring: Wiring) -> onnx.NodeProto | None:
    """The layer itself, where the runtime fused it with an activation or an addition and kept their output."""
    todo = [source] if source is not None and node.op_type in LAYERS else []
    while todo:
        current = todo.pop(0)
        if current.op_type in WEIGHTED:
            return current
        if current.op_type in FUSED_BEHIND:
            todo.extend(wiring.inputs_of(current))
    return source


def _why(node: onnx.NodeProto, wiring: Wiring, excluded: Collection[str]) -> str:
    """Why a node stayed in float, from the Q/DQ pairs around it in the file."""
    if node.name in excluded:
        return "kept in float on purpose"
    if node.op_type not in HAS_INTEGER_KERNEL:
        return f"the runtime has no integer kernel for {node.op_type}"
    bare = [
        name
        for name in node.input[:2]
        if name and (name not in wiring.producers or wiring.producers[name].op_type != "DequantizeLinear")
    ]
    if bare:
        return f"input {bare[0]!r} is not quantized"
    if not any(consumer.op_type == "QuantizeLinear" for consumer in _after(node, wiring)):
        return f"output {node.output[0]!r} is not quantized"
    if _signed(node, wiring):
        return "signed activations: this CPU's integer kernels want unsigned ones"
    return "quantized, but not fused by this version of the runtime"


def _after(node: onnx.NodeProto, wiring: Wiring) -> list[onnx.NodeProto]:
    """Consumers of a node, seen through a ReLU or clip that a quantizer absorbs."""
    direct = [consumer for name in node.output for consumer in wiring.consumers.get(name, ())]
    through = [
        c for d in direct if d.op_type in {"Relu", "Clip"} for n in d.output for c in wiring.consumers.get(n, ())
    ]
    return direct + through


def _signed(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Whether the first input is dequantized from signed integers."""
    maker = wiring.producers.get(node.input[0])
    zero_point = maker.input[2] if maker is not None and len(maker.input) > 2 else ""
    return wiring.initializers.get(zero_point) == onnx.TensorProto.INT8
