"""ONNX operators that move, cut and join, as calls of torch; see `torch_operators.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F


def shape(step: Any) -> Any:
    """A constant: shapes are fixed when the graph is translated."""
    return step.constant(list(step.shape(0)[slice(step.get("start", 0), step.get("end"))]), torch.int64)


def constant(step: Any) -> Any:
    for name, dtype in (("value", None), ("value_float", torch.float32), ("value_int", torch.int64)):
        if step.get(name) is not None:
            return step.constant(np.array(step.get(name)), dtype)
    for name, dtype in (("value_floats", torch.float32), ("value_ints", torch.int64)):
        if step.get(name) is not None:
            return step.constant(list(step.get(name)), dtype)
    raise step.refuse("a value that is no tensor of numbers")


def constant_of_shape(step: Any) -> Any:
    value = step.get("value", np.zeros(1, np.float32))
    return step.constant(np.full(step.known(0, []), value.reshape(-1)[0], dtype=value.dtype))


def cast(step: Any) -> Any:
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(step.get("to"))).name
    if not hasattr(torch, dtype):
        raise step.refuse("type " + dtype)
    return step.call(_cast, step.values[0], getattr(torch, dtype))


def _cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype)


def concat(step: Any) -> Any:
    return step.call(torch.cat, list(step.values), step.get("axis"))


def split(step: Any) -> Any:
    """Given sizes, or equal parts with a smaller last one."""
    axis = step.get("axis", 0)
    sizes = step.get("split") or step.known(1)
    whole = step.shape(0)[axis]
    part = -(-whole // step.count)
    sizes = list(sizes) if sizes else [min(part, whole - part * i) for i in range(step.count)]
    return step.call(torch.split, step.values[0], sizes, axis)


def slice_axes(step: Any) -> Any:
    sizes = step.shape(0)
    starts, ends = step.get("starts") or step.known(1), step.get("ends") or step.known(2)
    axes = step.get("axes") or step.known(3) or list(range(len(starts)))
    strides = step.known(4) or [1] * len(starts)
    if min(strides) < 1:
        raise step.refuse("a negative step")
    places = [slice(None)] * len(sizes)
    for axis, start, end, stride in zip(axes, starts, ends, strides):
        first, last, by = slice(start, end, stride).indices(sizes[axis])
        places[axis] = slice(first, last, by)
    return step.call(_slice, step.values[0], tuple((p.start, p.stop, p.step) for p in places))


def _slice(x: torch.Tensor, places: Any) -> torch.Tensor:
    return x[tuple(slice(*place) for place in places)]


def transpose(step: Any) -> Any:
    order = step.get("perm") or list(range(len(step.shape(0))))[::-1]
    return step.call(torch.permute, step.values[0], list(order))


def reshape(step: Any) -> Any:
    sizes = list(step.known(1, []))
    if not step.get("allowzero", 0):
        sizes = [step.shape(0)[i] if size == 0 else size for i, size in enumerate(sizes)]
    return step.call(torch.reshape, step.values[0], sizes)


def flatten(step: Any) -> Any:
    sizes, axis = step.shape(0), step.get("axis", 1)
    first = int(np.prod(sizes[: axis % len(sizes) if axis < 0 else axis]))
    return step.call(torch.reshape, step.values[0], [first, int(np.prod(sizes)) // max(first, 1)])


def squeeze(step: Any) -> Any:
    sizes = step.shape(0)
    axes = step.get("axes") or step.known(1) or [i for i, size in enumerate(sizes) if size == 1]
    gone = {axis % len(sizes) for axis in axes}
    return step.call(torch.reshape, step.values[0], [size for i, size in enumerate(sizes) if i not in gone])


def unsqueeze(step: Any) -> Any:
    sizes, axes = list(step.shape(0)), step.get("axes") or step.known(1)
    rank = len(sizes) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        sizes.insert(axis, 1)
    return step.call(torch.reshape, step.values[0], sizes)


def expand(step: Any) -> Any:
    sizes = np.broadcast_shapes(step.shape(0), tuple(step.known(1, [])))
    return step.call(_expand, step.values[0], sizes)


def _expand(x: torch.Tensor, sizes: Any) -> torch.Tensor:
    return x.expand(sizes)


def tile(step: Any) -> Any:
    return step.call(torch.tile, step.values[0], tuple(step.known(1)))


def gather(step: Any) -> Any:
    axis, rank = step.get("axis", 0), len(step.shape(0))
    places = step.given(1)
    if not isinstance(places, torch.Tensor):
        raise step.refuse("indices computed at run time")
    size = step.shape(0)[axis]
    return step.call(_gather, step.values[0], axis % rank, places % max(size, 1))


def _gather(x: torch.Tensor, axis: int, places: torch.Tensor) -> torch.Tensor:
    found = torch.index_select(x, axis, places.reshape(-1))
    return found.reshape(x.shape[:axis] + places.shape + x.shape[axis + 1 :])


def pad(step: Any) -> Any:
    """Amounts come as all befores, then all afters; torch wants pairs from the last axis on."""
    amounts = list(step.get("pads") or step.known(1))
    axes = step.known(3) or list(range(len(step.shape(0))))
    value = step.get("value") if step.get("value") is not None else step.known(2, 0.0)
    mode = step.get("mode", "constant")
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names:
        raise step.refuse("mode " + repr(mode))
    both = [(0, 0)] * len(step.shape(0))
    for i, axis in enumerate(axes):
        both[axis] = (amounts[i], amounts[i + len(axes)])
    if mode != "constant":
        if len(both) < 3 or both[:2] != [(0, 0)] * 2:
            raise step.refuse("mode " + repr(mode) + " on batch or channels")
        return step.call(F.pad, step.values[0], [n for pair in both[:1:-1] for n in pair], names[mode])
    number = value[0] if isinstance(value, list) else value
    return step.call(F.pad, step.values[0], [n for pair in both[::-1] for n in pair], "constant", number)


def depth_to_space(step: Any) -> Any:
    return step.call(_depth_to_space, step.values[0], step.get("blocksize"), step.get("mode", "DCR"))


def _depth_to_space(x: torch.Tensor, size: int, mode: str) -> torch.Tensor:
    batch, channels, height, width = x.shape
    kept = channels // (size * size)
    if mode == "DCR":
        y = x.reshape(batch, size, size, kept, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(batch, kept, size, size, height, width).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(batch, kept, height * size, width * size)


def space_to_depth(step: Any) -> Any:
    return step.call(_space_to_depth, step.values[0], step.get("blocksize"))


def _space_to_depth(x: torch.Tensor, size: int) -> torch.Tensor:
    batch, channels, height, width = x.shape
    y = x.reshape(batch, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(batch, channels * size * size, height // size, width // size)
