"""Following labels through a graph: one small rule per kind of operator, in one literal table.

Each rule gets the labels of a node's inputs and gives those of its outputs, and refuses what could not be cut
correctly: channels of different groups that meet, a constant the size of a channel axis, a reordering by index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from mtnas.graph.labels import FIXED, Axes, Labelled, disagreement, merge, tidy, unsupported
from mtnas.graph.operators import ELEMENTWISE, KEEPS_AXES, REDUCTIONS, RESHAPES


@dataclass(frozen=True)
class Site:
    """One node with everything a rule may read."""

    node: onnx.NodeProto
    inputs: tuple[Labelled | None, ...]
    constants: tuple[np.ndarray | None, ...]
    shapes: tuple[tuple[int, ...], ...]
    attributes: Mapping[str, object] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"{self.node.op_type} node {self.node.name or self.node.output[0]!r}"

    def integer(self, name: str, default: int) -> int:
        return int(self.attributes.get(name, default))  # type: ignore[call-overload]

    def at(self, index: int) -> Labelled:
        found = self.inputs[index]
        assert found is not None
        return found


Rule = Callable[[Site], list[Axes]]


def attributes_of(node: onnx.NodeProto) -> dict[str, object]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _broadcast(site: Site) -> list[Axes]:
    """Element by element, shapes aligned at the right."""
    rank = len(site.shapes[0])
    axes: Axes = {}
    for axis, size in enumerate(site.shapes[0]):
        meeting = []
        for tensor in site.inputs:
            here = axis - rank + len(tensor.shape) if tensor is not None else -1
            if tensor is not None and here >= 0 and tensor.shape[here] == size and size > 1:
                meeting.append(tensor.axis(here))
        if meeting:
            axes[axis] = merge(meeting, site.where)
    return [tidy(axes)]


def _first(site: Site) -> list[Axes]:
    """The first input's axes go on; no axis that may shrink changes its size."""
    source = site.at(0)
    for axis in source.axes:
        if axis >= len(site.shapes[0]) or site.shapes[0][axis] != source.shape[axis]:
            raise unsupported("an axis that shrinks is resized here", site.where)
    return [dict(source.axes) for _ in site.shapes]


def _norm(site: Site) -> list[Axes]:
    """Per-channel affine and statistics on axis 1."""
    source = site.at(0)
    channels = [source.axis(1), *(tensor.axis(0) for tensor in site.inputs[1:] if tensor is not None)]
    return [tidy({**source.axes, 1: merge(channels, site.where)})] + [{} for _ in site.shapes[1:]]


def _last_norm(site: Site) -> list[Axes]:
    """Affine on the last axes."""
    first = Site(site.node, site.inputs, site.constants, site.shapes[:1], site.attributes)
    return _broadcast(first) + [{} for _ in site.shapes[1:]]


def _reduce(site: Site) -> list[Axes]:
    source = site.at(0)
    raw = site.constants[1] if len(site.constants) > 1 else site.attributes.get("axes", site.attributes.get("axis"))
    rank = len(source.shape)
    listed = range(rank) if raw is None else np.atleast_1d(np.asarray(raw)).tolist()
    gone = {int(axis) % rank for axis in listed}
    if site.integer("keepdims", 1):
        return [{axis: labels for axis, labels in source.axes.items() if axis not in gone}]
    return [{a - sum(g < a for g in gone): labels for a, labels in source.axes.items() if a not in gone}]


def _blocks(labels: np.ndarray, blocks: int) -> np.ndarray:
    return labels.reshape(blocks, -1)


def check_blocks(inner: np.ndarray, outer: np.ndarray, weight: np.ndarray, groups: int, where: str) -> None:
    """A grouped convolution shrinks inside every block alike, or loses whole blocks; nothing else is sound."""
    in_blocks, out_blocks = _blocks(inner, groups), _blocks(outer, groups)
    alike = (in_blocks == in_blocks[:1]).all() and (out_blocks == out_blocks[:1]).all()
    if alike and np.array_equal(in_blocks[0], weight):
        return
    whole = (in_blocks == in_blocks[:, :1]).all() and (out_blocks == out_blocks[:, :1]).all()
    if whole and np.array_equal(in_blocks[:, 0], out_blocks[:, 0]) and (weight == FIXED).all():
        return
    raise disagreement(where)


def _conv(site: Site) -> list[Axes]:
    image, weight = site.at(0), site.at(1)
    check_blocks(image.axis(1), weight.axis(0), weight.axis(1), site.integer("group", 1), site.where)
    _check_bias(site, weight.axis(0))
    return [tidy({0: image.axis(0), 1: weight.axis(0)})]


def _conv_transpose(site: Site) -> list[Axes]:
    """The weight's first axis are input channels; the second are output channels inside one block."""
    image, weight, groups = site.at(0), site.at(1), site.integer("group", 1)
    blocks, inside = _blocks(merge([image.axis(1), weight.axis(0)], site.where), groups), weight.axis(1)
    alike = bool((blocks == blocks[:1]).all())
    whole = bool((blocks == blocks[:, :1]).all()) and bool((inside == FIXED).all())
    if not alike and not whole:
        raise disagreement(site.where)
    out = np.tile(inside, groups) if alike else np.repeat(blocks[:, 0], len(inside))
    _check_bias(site, out)
    return [tidy({0: image.axis(0), 1: out})]


def _check_bias(site: Site, channels: np.ndarray) -> None:
    if len(site.inputs) > 2 and site.inputs[2] is not None:
        merge([channels, site.at(2).axis(0)], site.where)


def _gemm(site: Site) -> list[Axes]:
    left, right = site.at(0), site.at(1)
    flip_left, flip_right = site.integer("transA", 0), site.integer("transB", 0)
    merge([left.axis(0 if flip_left else 1), right.axis(1 if flip_right else 0)], site.where)
    out = {0: left.axis(1 if flip_left else 0), 1: right.axis(0 if flip_right else 1)}
    if len(site.inputs) > 2 and site.inputs[2] is not None and site.at(2).shape[-1:] == site.shapes[0][1:]:
        merge([out[1], site.at(2).axis(len(site.at(2).shape) - 1)], site.where)
    return [tidy(out)]


def _matmul(site: Site) -> list[Axes]:
    left, right, rank = site.at(0), site.at(1), len(site.shapes[0])
    if len(left.shape) < 2 or len(right.shape) < 2:
        raise unsupported("a product with a vector", site.where)
    merge([left.axis(len(left.shape) - 1), right.axis(len(right.shape) - 2)], site.where)
    axes: Axes = {}
    for axis, size in enumerate(site.shapes[0][:-2]):
        places = [(t, axis - rank + len(t.shape)) for t in (left, right)]
        meeting = [t.axis(i) for t, i in places if i >= 0 and t.shape[i] == size and size > 1]
        if meeting:
            axes[axis] = merge(meeting, site.where)
    axes[rank - 2] = left.axis(len(left.shape) - 2)
    axes[rank - 1] = right.axis(len(right.shape) - 1)
    return [tidy(axes)]


def _concat(site: Site) -> list[Axes]:
    tensors = [tensor for tensor in site.inputs if tensor is not None]
    rank = len(site.shapes[0])
    joined = site.integer("axis", 0) % rank
    axes = {joined: np.concatenate([tensor.axis(joined) for tensor in tensors])}
    for axis in range(rank):
        if axis != joined:
            axes[axis] = merge([tensor.axis(axis) for tensor in tensors], site.where)
    return [tidy(axes)]


def _split(site: Site) -> list[Axes]:
    source = site.at(0)
    axis = site.integer("axis", 0) % len(source.shape)
    results, start = [], 0
    for shape in site.shapes:
        part = source.axis(axis)[start : start + shape[axis]]
        results.append(tidy({**source.axes, axis: part}))
        start += shape[axis]
    return results


def slice_bounds(site: Site) -> dict[int, tuple[int, int, int]]:
    """Of a Slice node: axis -> start, end, step, all inside the axis."""
    source = site.at(0)
    starts, ends = site.constants[1], site.constants[2]
    if starts is None or ends is None:
        raise unsupported("a slice that is not constant", site.where)
    axes = site.constants[3] if len(site.constants) > 3 and site.constants[3] is not None else np.arange(len(starts))
    steps = site.constants[4] if len(site.constants) > 4 and site.constants[4] is not None else np.ones(len(starts))
    bounds = {}
    for axis, start, end, step in zip(axes.tolist(), starts.tolist(), ends.tolist(), steps.tolist(), strict=True):
        place = int(axis) % len(source.shape)
        bounds[place] = slice(int(start), int(end), int(step)).indices(source.shape[place])
    return bounds


def _slice(site: Site) -> list[Axes]:
    source = site.at(0)
    axes = dict(source.axes)
    for axis, (start, end, step) in slice_bounds(site).items():
        if axis in axes and step != 1:
            raise unsupported("a slice of channels with a step", site.where)
        axes[axis] = source.axis(axis)[start:end] if step == 1 else np.full(site.shapes[0][axis], FIXED)
    return [tidy(axes)]


def _gather(site: Site) -> list[Axes]:
    source, picked = site.at(0), site.at(1)
    axis = site.integer("axis", 0) % len(source.shape)
    if axis in source.axes or picked.axes:
        raise unsupported("channels or images picked by index", site.where)
    shift = len(picked.shape) - 1
    return [{a if a < axis else a + shift: labels for a, labels in source.axes.items()}]


def _transpose(site: Site) -> list[Axes]:
    source = site.at(0)
    raw = site.attributes.get("perm")
    order = list(reversed(range(len(source.shape)))) if raw is None else [int(a) for a in raw]  # type: ignore[attr-defined]
    return [{place: source.axes[axis] for place, axis in enumerate(order) if axis in source.axes}]


def spread(full: np.ndarray, where: str) -> tuple[int, np.ndarray] | None:
    """The only axis along which a tensor of labels varies, and its labels; None when it is FIXED everywhere."""
    if (full == FIXED).all():
        return None
    for axis in range(full.ndim):
        index = tuple(slice(None) if a == axis else slice(0, 1) for a in range(full.ndim))
        if (full == full[index]).all():
            return axis, full[index].ravel()
    raise unsupported("channels mixed with other positions", where)


def _rearrange(site: Site, change: Callable[[np.ndarray], np.ndarray]) -> list[Axes]:
    """Carry each labelled axis through a change of shape, by doing it to a tensor of labels."""
    source, axes = site.at(0), Axes()
    for axis, labels in source.axes.items():
        view = labels.reshape([-1 if a == axis else 1 for a in range(len(source.shape))])
        found = spread(change(np.broadcast_to(view, source.shape)), site.where)
        if found is not None and found[0] in axes:
            raise unsupported("two axes that shrink become one", site.where)
        if found is not None:
            axes[found[0]] = found[1]
    return [axes]


def _reshape(site: Site) -> list[Axes]:
    return _rearrange(site, lambda full: full.reshape(site.shapes[0]))


def _depth_to_space(site: Site) -> list[Axes]:
    block, mode = site.integer("blocksize", 1), site.attributes.get("mode", b"DCR")

    def change(full: np.ndarray) -> np.ndarray:
        b, c, h, w = full.shape
        if mode == b"CRD":
            parts = full.reshape(b, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
        else:
            parts = full.reshape(b, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
        return parts.reshape(site.shapes[0])

    return _rearrange(site, change)


def _space_to_depth(site: Site) -> list[Axes]:
    block = site.integer("blocksize", 1)

    def change(full: np.ndarray) -> np.ndarray:
        b, c, h, w = full.shape
        parts = full.reshape(b, c, h // block, block, w // block, block).transpose(0, 3, 5, 1, 2, 4)
        return parts.reshape(site.shapes[0])

    return _rearrange(site, change)


def _expand(site: Site) -> list[Axes]:
    source = site.at(0)
    shift = len(site.shapes[0]) - len(source.shape)
    return [{axis + shift: labels for axis, labels in source.axes.items()}]


def _tile(site: Site) -> list[Axes]:
    source, repeats = site.at(0), site.constants[1]
    if repeats is None:
        raise unsupported("a tiling that is not constant", site.where)
    return [{axis: np.tile(labels, int(repeats[axis])) for axis, labels in source.axes.items()}]


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _broadcast),
    **dict.fromkeys(KEEPS_AXES, _first),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(RESHAPES, _reshape),
    "BatchNormalization": _norm,
    "InstanceNormalization": _norm,
    "LayerNormalization": _last_norm,
    "RMSNormalization": _last_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Transpose": _transpose,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Expand": _expand,
    "Tile": _tile,
}


def follow(site: Site) -> list[Axes]:
    """Labels of a node's outputs."""
    if not any(tensor is not None and tensor.axes for tensor in site.inputs):
        return [{} for _ in site.shapes]
    rule = RULES.get(site.node.op_type)
    if rule is None:
        raise unsupported(f"{site.node.op_type}", site.where)
    return rule(site)
