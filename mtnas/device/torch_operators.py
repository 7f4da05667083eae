"""ONNX operators as calls of torch: one function each, in the table at the end.

A function takes a `Step` (see `torch_graph.py`) and returns a value, or a tuple for several outputs. Variants that
torch does not compute exactly as ONNX says are refused by name, never approximated.
"""

from __future__ import annotations

from typing import Any, Callable

import torch
import torch.nn.functional as F

from .torch_layers import (
    average_pool,
    batch_norm,
    conv,
    conv_transpose,
    gemm,
    global_average_pool,
    global_max_pool,
    group_norm,
    instance_norm,
    layer_norm,
    max_pool,
    resize,
)
from .torch_shaping import (
    cast,
    concat,
    constant,
    constant_of_shape,
    depth_to_space,
    expand,
    flatten,
    gather,
    pad,
    reshape,
    shape,
    slice_axes,
    space_to_depth,
    split,
    squeeze,
    tile,
    transpose,
    unsqueeze,
)

Rule = Callable[[Any], Any]


def unary(function: Callable[..., Any]) -> Rule:
    """Element by element, without attributes."""
    return lambda step: step.call(function, step.values[0])


def binary(function: Callable[..., Any]) -> Rule:
    """Two tensors, shapes aligned at the right."""
    return lambda step: step.call(function, step.values[0], step.values[1])


def chain(function: Callable[..., Any]) -> Rule:
    """Two or more tensors, folded from the left."""

    def rule(step: Any) -> Any:
        result = step.values[0]
        for value in step.values[1:]:
            result = step.call(function, result, value)
        return result

    return rule


def divide(step: Any) -> Any:
    whole = not step.dtype(0).is_floating_point
    return step.call(torch.div, step.values[0], step.values[1], rounding_mode="trunc" if whole else None)


def mean(step: Any) -> Any:
    return step.call(torch.div, chain(torch.add)(step), len(step.values))


def modulo(step: Any) -> Any:
    return step.call(torch.fmod if step.get("fmod", 0) else torch.remainder, step.values[0], step.values[1])


def clip(step: Any) -> Any:
    low = step.get("min") if step.get("min") is not None else step.known(1)
    high = step.get("max") if step.get("max") is not None else step.known(2)
    if low is None and high is None:
        return step.values[0]
    return step.call(torch.clamp, step.values[0], low, high)


def leaky_relu(step: Any) -> Any:
    return step.call(F.leaky_relu, step.values[0], step.get("alpha", 0.01))


def prelu(step: Any) -> Any:
    """The slope is aligned at the right, as in ONNX; torch's own takes one per channel."""
    return step.call(_prelu, step.values[0], step.values[1])


def _prelu(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    return torch.where(x < 0, slope * x, x)


def elu(step: Any) -> Any:
    return step.call(F.elu, step.values[0], step.get("alpha", 1.0))


def celu(step: Any) -> Any:
    return step.call(F.celu, step.values[0], step.get("alpha", 1.0))


def selu(step: Any) -> Any:
    if {"alpha", "gamma"} & set(step._attributes):
        raise step.refuse("its own alpha or gamma")
    return step.call(F.selu, step.values[0])


def gelu(step: Any) -> Any:
    return step.call(F.gelu, step.values[0], approximate=step.get("approximate", "none"))


def hard_sigmoid(step: Any) -> Any:
    return step.call(_hard_sigmoid, step.values[0], step.get("alpha", 0.2), step.get("beta", 0.5))


def _hard_sigmoid(x: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def swish(step: Any) -> Any:
    return step.call(_swish, step.values[0], step.get("alpha", 1.0))


def _swish(x: torch.Tensor, alpha: float) -> torch.Tensor:
    return x * torch.sigmoid(alpha * x)


def identity(step: Any) -> Any:
    return step.values[0]


def where(step: Any) -> Any:
    return step.call(torch.where, *step.values)


def softmax(step: Any) -> Any:
    return step.call(F.softmax, step.values[0], step.get("axis", -1))


def log_softmax(step: Any) -> Any:
    return step.call(F.log_softmax, step.values[0], step.get("axis", -1))


def arg(function: Callable[..., Any]) -> Rule:
    """Index of the extreme along one axis."""

    def rule(step: Any) -> Any:
        if step.get("select_last_index", 0):
            raise step.refuse("the last index")
        return step.call(function, step.values[0], step.get("axis", 0), bool(step.get("keepdims", 1)))

    return rule


def reduce(function: Callable[..., Any]) -> Rule:
    """Over the axes of the attribute (older opsets) or of the second input; over all where none is given."""

    def rule(step: Any) -> Any:
        axes = step.get("axes") or step.known(1)
        if not axes and step.get("noop_with_empty_axes", 0):
            return step.values[0]
        axes = list(axes) if axes else list(range(len(step.shape(0))))
        return step.call(function, step.values[0], axes, bool(step.get("keepdims", 1)))

    return rule


def _square_sum(x: torch.Tensor, axes: Any, keep: bool) -> torch.Tensor:
    return torch.sum(x * x, axes, keep)


def _absolute_sum(x: torch.Tensor, axes: Any, keep: bool) -> torch.Tensor:
    return torch.sum(torch.abs(x), axes, keep)


def _root_square_sum(x: torch.Tensor, axes: Any, keep: bool) -> torch.Tensor:
    return torch.sqrt(torch.sum(x * x, axes, keep))


def quantize(step: Any) -> Any:
    """To integers as ONNX rounds (half to even, then clamped); the arithmetic is float32."""
    axis = _scale_axis(step)
    zero = step.given(2)
    kind = step.dtype(2) if zero is not None else torch.uint8
    if kind not in (torch.int8, torch.uint8):
        raise step.refuse("integers of type " + str(kind))
    return step.call(_quantize, step.values[0], step.values[1], zero, axis, kind)


def dequantize(step: Any) -> Any:
    return step.call(_dequantize, step.values[0], step.values[1], step.given(2), _scale_axis(step))


def _scale_axis(step: Any) -> Any:
    if step.get("block_size", 0):
        raise step.refuse("scales per block")
    if len(step.shape(1)) == 0 or step.shape(1) == (1,):
        return None
    return step.get("axis", 1) % len(step.shape(0))


def _along(values: Any, axis: Any, x: torch.Tensor) -> torch.Tensor:
    """One value per index of an axis, shaped to meet x."""
    values = values.to(torch.float32)
    return values.reshape(()) if axis is None else values.reshape([-1 if i == axis else 1 for i in range(x.dim())])


def _quantize(x: torch.Tensor, scale: torch.Tensor, zero: Any, axis: Any, kind: torch.dtype) -> torch.Tensor:
    whole = torch.round(x / _along(scale, axis, x))
    if zero is not None:
        whole = whole + _along(zero, axis, x)
    limits = torch.iinfo(kind)
    return torch.clamp(whole, limits.min, limits.max).to(kind)


def _dequantize(x: torch.Tensor, scale: torch.Tensor, zero: Any, axis: Any) -> torch.Tensor:
    value = x.to(torch.float32)
    if zero is not None:
        value = value - _along(zero, axis, x)
    return value * _along(scale, axis, x)


OPERATORS: dict[str, Rule] = {
    "Abs": unary(torch.abs),
    "Add": binary(torch.add),
    "And": binary(torch.logical_and),
    "ArgMax": arg(torch.argmax),
    "ArgMin": arg(torch.argmin),
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Ceil": unary(torch.ceil),
    "Celu": celu,
    "Clip": clip,
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Cos": unary(torch.cos),
    "DepthToSpace": depth_to_space,
    "DequantizeLinear": dequantize,
    "Div": divide,
    "Dropout": identity,
    "Elu": elu,
    "Equal": binary(torch.eq),
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "Expand": expand,
    "Flatten": flatten,
    "Floor": unary(torch.floor),
    "Gather": gather,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "Greater": binary(torch.gt),
    "GreaterOrEqual": binary(torch.ge),
    "GroupNormalization": group_norm,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": unary(F.hardswish),
    "Identity": identity,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "LeakyRelu": leaky_relu,
    "Less": binary(torch.lt),
    "LessOrEqual": binary(torch.le),
    "Log": unary(torch.log),
    "LogSoftmax": log_softmax,
    "MatMul": binary(torch.matmul),
    "Max": chain(torch.maximum),
    "MaxPool": max_pool,
    "Mean": mean,
    "Min": chain(torch.minimum),
    "Mish": unary(F.mish),
    "Mod": modulo,
    "Mul": binary(torch.mul),
    "Neg": unary(torch.neg),
    "Not": unary(torch.logical_not),
    "Or": binary(torch.logical_or),
    "PRelu": prelu,
    "Pad": pad,
    "Pow": binary(torch.pow),
    "QuantizeLinear": quantize,
    "Reciprocal": unary(torch.reciprocal),
    "ReduceL1": reduce(_absolute_sum),
    "ReduceL2": reduce(_root_square_sum),
    "ReduceMax": reduce(torch.amax),
    "ReduceMean": reduce(torch.mean),
    "ReduceMin": reduce(torch.amin),
    "ReduceSum": reduce(torch.sum),
    "ReduceSumSquare": reduce(_square_sum),
    "Relu": unary(F.relu),
    "Reshape": reshape,
    "Resize": resize,
    "Round": unary(torch.round),
    "Selu": selu,
    "Shape": shape,
    "Sigmoid": unary(torch.sigmoid),
    "Sign": unary(torch.sign),
    "Sin": unary(torch.sin),
    "Slice": slice_axes,
    "Softmax": softmax,
    "Softplus": unary(F.softplus),
    "Softsign": unary(F.softsign),
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Sqrt": unary(torch.sqrt),
    "Squeeze": squeeze,
    "Sub": binary(torch.sub),
    "Sum": chain(torch.add),
    "Swish": swish,
    "Tanh": unary(torch.tanh),
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": where,
    "Xor": binary(torch.logical_xor),
}
