"""Constants that hold channel counts or the batch size, rewritten so that they hold neither.

The exporter writes the numbers it saw: `Reshape` to (2, 16), `Resize` to (2, 6, 32, 32). Where a label says that
such a number shrinks, it becomes 0 (copy), -1 (whatever is left) or a scale; what cannot be said that way is listed
as a `Patch`, whose numbers are filled in for each selection. Doing it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mtnas.graph.follow import Site, attributes_of, slice_bounds
from mtnas.graph.labels import BATCH, Labelled, unsupported


@dataclass(frozen=True)
class Patch:
    """A constant whose entries are numbers, or the labels of positions to be counted."""

    name: str
    entries: tuple[int | np.ndarray, ...]

    def values(self, mask: np.ndarray) -> np.ndarray:
        return np.array([e if isinstance(e, int) else int(mask[e].sum()) for e in self.entries], dtype=np.int64)

    @property
    def needs_batch(self) -> bool:
        return any(not isinstance(e, int) and ((e >= 0) & (e < BATCH)).any() for e in self.entries)


def sanitise(skeleton: onnx.ModelProto, labels: Mapping[str, Labelled]) -> tuple[Patch, ...]:
    """Rewrite the skeleton's constants in place; returns what must be filled in for each selection."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in skeleton.graph.initializer}
    patches: list[Patch] = []
    for node in skeleton.graph.node:
        rewrite = _REWRITES.get(node.op_type)
        if rewrite is not None:
            patches.extend(rewrite(node, labels, constants))
    drop_unused(skeleton, constants)
    return tuple(patches)


def drop_unused(skeleton: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> None:
    """Make the initializers those constants that some node still reads."""
    read = {name for node in skeleton.graph.node for name in node.input}
    del skeleton.graph.initializer[:]
    skeleton.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items() if n in read)


def _own(node: onnx.NodeProto, index: int, value: np.ndarray, constants: dict[str, np.ndarray]) -> str:
    """Give a node a constant of its own at one input."""
    name = f"{node.name}.{('data', 'shape', 'scales', 'sizes')[min(index, 3)]}{index if index > 3 else ''}"
    while len(node.input) <= index:
        node.input.append("")
    node.input[index] = name
    constants[name] = value
    return name


def _same(a: Labelled, b: Labelled, axis: int) -> bool:
    inside = axis < len(a.shape) and a.shape[axis] == b.shape[axis]
    return inside and np.array_equal(a.axis(axis), b.axis(axis))


def _reshape(node: onnx.NodeProto, labels: Mapping[str, Labelled], constants: dict[str, np.ndarray]) -> Iterator[Patch]:
    source, result = labels[node.input[0]], labels[node.output[0]]
    entries: list[int | np.ndarray] = list(result.shape)
    pending = []
    for axis, shrinking in result.axes.items():
        if _same(source, result, axis):
            entries[axis] = 0
        else:
            entries[axis] = shrinking
            pending.append(axis)
    if pending:
        # The batch goes first: it alone may be unknown when the graph is written.
        entries[min(pending, key=lambda axis: int(result.axes[axis].max() >= BATCH))] = -1
    numbers = [e if isinstance(e, int) else len(e) for e in entries]
    name = _own(node, 1, np.array(numbers, dtype=np.int64), constants)
    kept = [a for a in node.attribute if a.name != "allowzero"]
    del node.attribute[:]
    node.attribute.extend(kept)
    if any(not isinstance(e, int) for e in entries):
        yield Patch(name, tuple(entries))


def is_exact_scale(size: int, target: int) -> bool:
    """Whether target / size has no rounding in float32, so that every runtime computes the same length from it."""
    return Fraction(float(np.float32(target / size))) * size == target


def _resize(node: onnx.NodeProto, labels: Mapping[str, Labelled], constants: dict[str, np.ndarray]) -> Iterator[Patch]:
    """Exact scales where there are any; else sizes, of the axes that change alone."""
    if len(node.input) < 4 or not node.input[3]:
        return
    source, result = labels[node.input[0]].shape, labels[node.output[0]].shape
    changed = [axis for axis in range(len(source)) if source[axis] != result[axis]] or [len(source) - 1]
    kept = [attribute for attribute in node.attribute if attribute.name != "axes"]
    del node.attribute[:]
    node.attribute.extend(kept)
    if all(is_exact_scale(source[axis], result[axis]) for axis in changed):
        del node.input[3]
        scales = [t / s for s, t in zip(source, result, strict=True)]
        _own(node, 2, np.array(scales, dtype=np.float32), constants)
    else:
        node.attribute.append(helper.make_attribute("axes", changed))
        _own(node, 3, np.array([result[axis] for axis in changed], dtype=np.int64), constants)
    yield from ()


def _expand(node: onnx.NodeProto, labels: Mapping[str, Labelled], constants: dict[str, np.ndarray]) -> Iterator[Patch]:
    source, result = labels[node.input[0]], labels[node.output[0]]
    shift = len(result.shape) - len(source.shape)
    same = [a >= shift and source.shape[a - shift] == size for a, size in enumerate(result.shape)]
    target = [1 if kept else size for kept, size in zip(same, result.shape, strict=True)]
    _own(node, 1, np.array(target, dtype=np.int64), constants)
    yield from ()


def _split(node: onnx.NodeProto, labels: Mapping[str, Labelled], constants: dict[str, np.ndarray]) -> Iterator[Patch]:
    axis = int(attributes_of(node).get("axis", 0)) % len(labels[node.input[0]].shape)  # type: ignore[call-overload]
    if axis not in labels[node.input[0]].axes:
        return
    kept = [a for a in node.attribute if a.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend(kept)
    parts = [labels[name] for name in node.output]
    name = _own(node, 1, np.array([part.shape[axis] for part in parts], dtype=np.int64), constants)
    yield Patch(name, tuple(part.axis(axis) for part in parts))


def _slice(node: onnx.NodeProto, labels: Mapping[str, Labelled], constants: dict[str, np.ndarray]) -> Iterator[Patch]:
    source = labels[node.input[0]]
    inputs = tuple(labels.get(name) for name in node.input)
    values = tuple(constants.get(name) for name in node.input)
    bounds = slice_bounds(Site(node, inputs, values, (labels[node.output[0]].shape,)))
    touched = [axis for axis in bounds if axis in source.axes]
    if not touched:
        return
    if any(step < 0 for _, _, step in bounds.values()):
        raise unsupported("a slice that runs backwards", f"Slice node {node.name!r}")
    order = sorted(bounds)
    starts = tuple(source.axis(a)[: bounds[a][0]] if a in touched else bounds[a][0] for a in order)
    ends = tuple(source.axis(a)[: bounds[a][1]] if a in touched else bounds[a][1] for a in order)
    first = _own(node, 1, np.array([bounds[a][0] for a in order], dtype=np.int64), constants)
    last = _own(node, 2, np.array([bounds[a][1] for a in order], dtype=np.int64), constants)
    _own(node, 3, np.array(order, dtype=np.int64), constants)
    _own(node, 4, np.array([bounds[a][2] for a in order], dtype=np.int64), constants)
    yield Patch(first, starts)
    yield Patch(last, ends)


_REWRITES = {"Reshape": _reshape, "Resize": _resize, "Expand": _expand, "Split": _split, "Slice": _slice}


def inline_constants(model: onnx.ModelProto) -> None:
    """Turn Constant nodes into initializers."""
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Constant":
            nodes.append(node)
            continue
        value = helper.get_attribute_value(node.attribute[0])
        tensor = value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(_typed(value))
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _typed(value: object) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
