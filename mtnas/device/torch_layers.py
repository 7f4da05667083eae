"""ONNX operators with windows, weights or statistics, as calls of torch; see `torch_operators.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

_CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _window(step: Any, kernel: list[int]) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Strides, dilations, and (before, after) padding per axis."""
    rank = len(kernel)
    strides = list(step.get("strides") or [1] * rank)
    dilations = list(step.get("dilations") or [1] * rank)
    auto = step.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for size, k, stride, dilation in zip(step.shape(0)[2:], kernel, strides, dilations):
            total = max(0, (math.ceil(size / stride) - 1) * stride + dilation * (k - 1) + 1 - size)
            small = total // 2
            pads.append((small, total - small) if auto == "SAME_UPPER" else (total - small, small))
        return strides, dilations, pads
    flat = list(step.get("pads") or [0] * 2 * rank) if auto == "NOTSET" else [0] * 2 * rank
    return strides, dilations, list(zip(flat[:rank], flat[rank:]))


def _padded(step: Any, pads: list[tuple[int, int]], value: float) -> tuple[Any, list[int]]:
    """The input and the symmetric padding left for the layer; uneven padding is written out before it."""
    if all(before == after for before, after in pads):
        return step.values[0], [before for before, _ in pads]
    flat = [n for pair in pads[::-1] for n in pair]
    return step.call(F.pad, step.values[0], flat, "constant", value), [0] * len(pads)


def conv(step: Any) -> Any:
    kernel = list(step.shape(1)[2:])
    strides, dilations, pads = _window(step, kernel)
    x, padding = _padded(step, pads, 0.0)
    function = _CONVS[len(kernel)]
    return step.call(function, x, step.values[1], step.given(2), strides, padding, dilations, step.get("group", 1))


def conv_transpose(step: Any) -> Any:
    kernel = list(step.shape(1)[2:])
    strides, dilations, pads = _window(step, kernel)
    if step.get("auto_pad", "NOTSET") != "NOTSET" or step.get("output_shape"):
        raise step.refuse("auto_pad or output_shape")
    if any(before != after for before, after in pads):
        raise step.refuse("uneven padding")
    extra = list(step.get("output_padding") or [0] * len(kernel))
    padding, groups = [before for before, _ in pads], step.get("group", 1)
    function = _TRANSPOSED[len(kernel)]
    return step.call(function, *step.values[:2], step.given(2), strides, padding, extra, groups, dilations)


def gemm(step: Any) -> Any:
    alpha, beta = step.get("alpha", 1.0), step.get("beta", 1.0)
    flipped = bool(step.get("transA", 0)), bool(step.get("transB", 0))
    if (alpha, beta, flipped) == (1.0, 1.0, (False, True)) and step.given(2) is not None and len(step.shape(2)) == 1:
        return step.call(F.linear, *step.values[:3])
    return step.call(_gemm, step.values[0], step.values[1], step.given(2), alpha, beta, flipped)


def _gemm(a: Any, b: Any, c: Any, alpha: float, beta: float, flipped: tuple[bool, bool]) -> torch.Tensor:
    product = alpha * torch.matmul(a.t() if flipped[0] else a, b.t() if flipped[1] else b)
    return product if c is None else product + beta * c


def batch_norm(step: Any) -> Any:
    if step.get("training_mode", 0):
        raise step.refuse("training_mode")
    x, weight, bias, mean, variance = step.values[:5]
    return step.call(F.batch_norm, x, mean, variance, weight, bias, False, 0.0, step.get("epsilon", 1e-5))


def instance_norm(step: Any) -> Any:
    x, weight, bias = step.values[:3]
    return step.call(F.instance_norm, x, None, None, weight, bias, True, 0.0, step.get("epsilon", 1e-5))


def group_norm(step: Any) -> Any:
    x, weight, bias = step.values[:3]
    groups = step.get("num_groups")
    if step.shape(1)[0] != step.shape(0)[1]:
        raise step.refuse("one scale per group, as before opset 21")
    return step.call(F.group_norm, x, groups, weight, bias, step.get("epsilon", 1e-5))


def layer_norm(step: Any) -> Any:
    if step.count > 1:
        raise step.refuse("mean and deviation as outputs")
    sizes = list(step.shape(0))[step.get("axis", -1) :]
    return step.call(F.layer_norm, step.values[0], sizes, step.values[1], step.given(2), step.get("epsilon", 1e-5))


def max_pool(step: Any) -> Any:
    if step.count > 1:
        raise step.refuse("indices")
    kernel = list(step.get("kernel_shape"))
    strides, dilations, pads = _window(step, kernel)
    ceil = bool(step.get("ceil_mode", 0))
    uneven = any(before != after for before, after in pads)
    if uneven or any(before > k // 2 for (before, _), k in zip(pads, kernel)):
        flat = [n for pair in pads[::-1] for n in pair]
        x, padding = step.call(F.pad, step.values[0], flat, "constant", -math.inf), [0] * len(kernel)
    else:
        x, padding = step.values[0], [before for before, _ in pads]
    return step.call(_MAX_POOLS[len(kernel)], x, kernel, strides, padding, dilations, ceil)


def average_pool(step: Any) -> Any:
    kernel = list(step.get("kernel_shape"))
    strides, dilations, pads = _window(step, kernel)
    counted = bool(step.get("count_include_pad", 0))
    if any(d != 1 for d in dilations):
        raise step.refuse("dilations")
    if any(before != after for before, after in pads) and not counted:
        raise step.refuse("uneven padding that does not count")
    x, padding = _padded(step, pads, 0.0)
    function, ceil = _AVERAGE_POOLS[len(kernel)], bool(step.get("ceil_mode", 0))
    return step.call(function, x, kernel, strides, padding, ceil, counted)


def global_average_pool(step: Any) -> Any:
    return step.call(torch.mean, step.values[0], list(range(2, len(step.shape(0)))), True)


def global_max_pool(step: Any) -> Any:
    return step.call(torch.amax, step.values[0], list(range(2, len(step.shape(0)))), True)


def resize(step: Any) -> Any:
    """Nearest by index, as ONNX places them; linear through torch where the two agree."""
    sizes, scales = _resize_target(step)
    place = step.get("coordinate_transformation_mode", "half_pixel")
    mode = step.get("mode", "nearest")
    if mode == "nearest":
        return _nearest(step, sizes, scales, place, step.get("nearest_mode", "round_prefer_floor"))
    if step.get("antialias", 0) or step.get("exclude_outside", 0):
        raise step.refuse("antialias or exclude_outside")
    if sizes[:2] != list(step.shape(0)[:2]):
        raise step.refuse("another number of channels")
    if place not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise step.refuse("mode " + mode + ", coordinates " + place)
    if mode == "cubic" and (len(sizes) != 4 or abs(step.get("cubic_coeff_a", -0.75) + 0.75) > 1e-6):
        raise step.refuse("these cubic coefficients")
    name = "bicubic" if mode == "cubic" else _LINEAR[len(sizes) - 2]
    exact = all(abs(size / old - scale) < 1e-6 for size, old, scale in zip(sizes, step.shape(0), scales))
    if not exact and place != "align_corners":
        raise step.refuse("a scale that gives no whole size")
    return step.call(F.interpolate, step.values[0], size=sizes[2:], mode=name, align_corners=place == "align_corners")


def _resize_target(step: Any) -> tuple[list[int], list[float]]:
    """Sizes and scales of all axes."""
    old = list(step.shape(0))
    axes = [axis % len(old) for axis in step.get("axes") or range(len(old))]
    if step.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise step.refuse("a kept aspect ratio")
    sizes, scales = list(old), [1.0] * len(old)
    wanted = step.known(3)
    for i, axis in enumerate(axes):
        scales[axis] = wanted[i] / old[axis] if wanted else step.known(2)[i]
        sizes[axis] = wanted[i] if wanted else math.floor(old[axis] * scales[axis])
    return [int(size) for size in sizes], [float(scale) for scale in scales]


def _nearest(step: Any, sizes: list[int], scales: list[float], place: str, rounding: str) -> Any:
    old = step.shape(0)
    plain = place == "asymmetric" and rounding == "floor"
    whole = all(abs(size / before - scale) < 1e-6 for size, before, scale in zip(sizes, old, scales))
    if plain and whole and sizes[:2] == list(old[:2]):
        return step.call(F.interpolate, step.values[0], size=sizes[2:], mode="nearest")
    result = step.values[0]
    for axis, (size, before, scale) in enumerate(zip(sizes, old, scales)):
        if size == before:
            continue
        indices = step.constant(_nearest_places(step, size, before, scale, place, rounding))
        result = step.call(torch.index_select, result, axis, indices)
    return result


def _nearest_places(step: Any, size: int, old: int, scale: float, place: str, rounding: str) -> np.ndarray:
    """For each new index the old one."""
    x = np.arange(size, dtype=np.float64)
    coordinates = {
        "half_pixel": (x + 0.5) / scale - 0.5,
        "pytorch_half_pixel": (x + 0.5) / scale - 0.5 if size > 1 else x * 0,
        "asymmetric": x / scale,
        "align_corners": x * (old - 1) / max(size - 1, 1),
    }
    rounded: dict[str, Any] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }
    if place not in coordinates or rounding not in rounded:
        raise step.refuse("coordinates " + place + ", rounding " + rounding)
    return np.clip(rounded[rounding](coordinates[place]), 0, old - 1).astype(np.int64)
