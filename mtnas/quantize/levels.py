"""Numbers of an int8 copy: levels of stored arrays, and which tensors cannot be negative."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from mtnas.quantize.dialects import Dialect

#: outputs are never negative, whatever comes in
_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax", "Abs", "HardSigmoid"})
#: not negative when no input is
_KEEPS_SIGN = frozenset(
    {
        "Add",
        "AveragePool",
        "Concat",
        "Flatten",
        "Gather",
        "GlobalAveragePool",
        "Identity",
        "MaxPool",
        "Mul",
        "ReduceMax",
    }
    | {"ReduceMean", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)


def not_negative(graph: onnx.GraphProto, arrays: dict[str, TensorProto]) -> set[str]:
    """Tensors that cannot hold a negative number, as far as the operators say."""
    found: set[str] = set()
    for node in graph.node:
        sources = [name for name in node.input[: None if node.op_type in {"Add", "Mul", "Concat"} else 1] if name]
        if node.op_type == "Clip":
            low = arrays.get(node.input[1]) if len(node.input) > 1 else None
            safe = low is not None and float(numpy_helper.to_array(low)) >= 0
        else:
            safe = node.op_type in _KEEPS_SIGN and all(_safe(name, found, arrays) for name in sources)
        if safe or node.op_type in _NEVER_NEGATIVE:
            found.update(node.output)
    return found


def _safe(name: str, found: set[str], arrays: dict[str, TensorProto]) -> bool:
    stored = arrays.get(name)
    return name in found or (stored is not None and bool((numpy_helper.to_array(stored) >= 0).all()))


def quantize_weight(array: np.ndarray, axis: int | None, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale, zero point and int8 levels of a weight, symmetric, one scale per position of `axis` if there is one."""
    others = tuple(a for a in range(array.ndim) if a != axis) if axis is not None else None
    widest = np.maximum(array.max(axis=others), -array.min(axis=others)).astype(np.float32)
    scale = np.where(widest > 0, widest / np.float32(most), np.float32(1)).astype(np.float32)
    shape = [-1 if a == axis else 1 for a in range(array.ndim)] if axis is not None else [1] * array.ndim
    levels = array * (1 / scale).reshape(shape)
    np.rint(levels, out=levels)
    return scale, np.zeros(scale.shape, np.int8), levels.astype(np.int8)


def quantize_operand(array: np.ndarray, dialect: Dialect) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale, zero point and levels of a stored operand, as the dialect quantizes activations."""
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    if dialect.symmetric:
        scale, zero, least, most = max(-low, high) / 127 or 1.0, 0, -127, 127
    else:
        scale = (high - low) / 255 or 1.0
        zero, least, most = round(-low / scale), 0, 255
    kind = np.int8 if dialect.activations == "QInt8" else np.uint8
    levels = np.clip(np.rint(array / scale) + zero, least, most).astype(kind)
    return np.array(scale, np.float32), np.array(zero, kind), levels
