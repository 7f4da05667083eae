"""Another input size for a graph whose sizes the exporter wrote down as numbers.

Convolutions do not care. What does is re-derived node by node: where a `Resize` leads to, how a `Reshape` splits, how
large an adaptive pooling's windows are. A number may have several meanings (twice the map before it, as large as the
skip beside it, as large as the image). At the new size they must all say the same, or what meets the result must
decide. Where neither holds the size is refused, never guessed.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, helper, numpy_helper

from mtnas.base.errors import ModelError
from mtnas.graph.labels import BATCH
from mtnas.graph.network import IMAGE, infer_shapes, set_batch
from mtnas.graph.operators import ELEMENTWISE
from mtnas.graph.regroup import Shape, quotient, regroup

#: where a Resize has its sizes
_RESIZE_SIZES = 3
#: with more tiled poolings than this, all or none of them are adaptive
_MOST_POOLS = 4


def at_input_size(model: onnx.ModelProto, size: tuple[int, int], fixed: Collection[str] = ()) -> onnx.ModelProto:
    """A copy of a network for images of another height and width.

    Args:
        model: static shapes but for the batch; weights as initializers. It is left alone.
        size: height and width in pixels.
        fixed: names of pooling nodes whose windows stay as they are.

    Raises:
        ModelError: the graph has its input size baked in, or a number in it could mean several things.
    """
    old = infer_shapes(_bare(model), _arrays(model))
    pools = [node.name for node in model.graph.node if node.name not in fixed and _may_adapt(node, old)]
    if len(pools) <= _MOST_POOLS:
        choices: list[tuple[bool, ...]] = list(itertools.product((False, True), repeat=len(pools)))
    else:
        choices = [(adapts,) * len(pools) for adapts in (False, True)]
    found: dict[bytes, onnx.ModelProto] = {}
    errors: list[ModelError] = []
    for choice in choices:
        try:
            sized = _Sizer(model, old, size, {n for n, adapts in zip(pools, choice) if adapts}).run()
            found.setdefault(sized.SerializeToString(deterministic=True), sized)
        except ModelError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    if len(found) > 1:
        raise _baked(f"pooling that may or may not adapt its windows ({', '.join(pools)})", size, "")
    return next(iter(found.values()))


class _Sizer:
    """One pass over the nodes; `old` and `new` are shapes by tensor, traced with two images."""

    def __init__(self, model: onnx.ModelProto, old: dict[str, Shape], size: tuple[int, int], adapting: set[str]):
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self.size, self.adapting, self.old = size, adapting, old
        self.constants = {t.name: t for t in self.graph.initializer if t.data_type == TensorProto.INT64}
        self.constants |= {t.name: t for t in self.graph.initializer if prod(t.dims) <= 8}
        self.types = {t.name: _typed(t.data_type, tuple(t.dims)) for t in self.graph.initializer}
        self.new: dict[str, Shape] = {t.name: tuple(t.dims) for t in self.graph.initializer}
        self.new[IMAGE] = (BATCH, old[IMAGE][1], *size)
        self.types[IMAGE] = _typed(TensorProto.FLOAT, self.new[IMAGE])
        self.made: list[str] = [IMAGE]
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def run(self) -> onnx.ModelProto:
        for dim, value in zip(self.graph.input[0].type.tensor_type.shape.dim[2:], self.size):
            dim.dim_value = value
        for node in self.graph.node:
            if any(self._changed(name) for name in node.input if name):
                self._adapt(node)
            self._infer(node)
        for value in self.graph.output:
            shape = self.new[value.name]
            del value.type.tensor_type.shape.dim[:]
            for length in shape:
                value.type.tensor_type.shape.dim.add().dim_value = length
        set_batch(self.model, "batch")
        return self.model

    def _changed(self, name: str) -> bool:
        return self.new[name] != self.old[name]

    def _infer(self, node: onnx.NodeProto) -> None:
        """Shapes of a node's outputs, by onnx's own rules."""
        schema = onnx.defs.get_schema(node.op_type, self._opset(), node.domain)
        types = {name: self.types[name] for name in node.input if name}
        data = {name: self.constants[name] for name in node.input if name in self.constants}
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=list(self.model.opset_import), ir_version=self.model.ir_version
            )
        except onnx.shape_inference.InferenceError as error:
            raise _baked(str(error).strip().splitlines()[-1][:200], self.size, node.name) from error
        for name in node.output:
            if not name:
                continue
            dims = found[name].tensor_type.shape.dim if name in found else ()
            shape = tuple(dim.dim_value for dim in dims)
            if len(shape) != len(self.old[name]) or min(shape, default=1) < 1:
                raise _baked("no static shape", self.size, node.name)
            self.types[name], self.new[name] = found[name], shape
            self.made.append(name)
        self._check_weights(node)

    def _check_weights(self, node: onnx.NodeProto) -> None:
        """What shape inference lets pass: a matrix product whose inner lengths differ."""
        if node.op_type in {"Gemm", "MatMul"}:
            flip = [a.i for a in node.attribute if a.name == "transB"] == [1]
            inner = self.new[node.input[1]][-1 if flip else -2]
            if self.new[node.input[0]][-1] != inner:
                raise _baked(f"{inner} values flattened", self.size, node.name)

    def _opset(self) -> int:
        return next(item.version for item in self.model.opset_import if item.domain in {"", "ai.onnx"})

    # --- the numbers of one node ---

    def _adapt(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Resize":
            self._resize(node)
        elif node.op_type == "Reshape":
            self._reshape(node)
        elif node.op_type == "Slice":
            self._slice(node)
        elif node.op_type == "Expand":
            self._expand(node)
        elif node.name in self.adapting:
            self._pool(node)
        elif node.op_type == "GridSample":
            raise _baked("a sampling grid of fixed size", self.size, node.name)

    def _constant(self, node: onnx.NodeProto, index: int, values: Sequence[int]) -> None:
        name = f"{node.name}.at.{index}"
        tensor = numpy_helper.from_array(np.array(values, dtype=np.int64), name)
        self.graph.initializer.append(tensor)
        self.constants[name], self.types[name] = tensor, _typed(TensorProto.INT64, (len(values),))
        self.new[name] = self.old[name] = (len(values),)
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name

    def _resize(self, node: onnx.NodeProto) -> None:
        source, result = node.input[0], node.output[0]
        before, after = self.old[source][2:], self.old[result][2:]
        scaled = [quotient(now * a, b) for now, a, b in zip(self.new[source][2:], after, before)]
        candidates = {tuple(scaled)} if all(length is not None for length in scaled) else set()
        target = self._decided(node, candidates | set(self._like(after)))
        if len(node.input) > 2:
            node.input[2] = ""
        kept = [attribute for attribute in node.attribute if attribute.name != "axes"]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.append(helper.make_attribute("axes", list(range(2, 2 + len(target)))))
        self._constant(node, _RESIZE_SIZES, target)

    def _like(self, spatial: Shape) -> Iterator[Shape]:
        """New sizes of the maps that were as large as this when the graph was written."""
        for name in self.made:
            if len(self.old[name]) == len(spatial) + 2 and self.old[name][2:] == spatial:
                yield self.new[name][2:]

    def _decided(self, node: onnx.NodeProto, candidates: set[tuple[int | None, ...]]) -> Shape:
        """The one size that all meanings agree on, or the one that fits what the result meets."""
        partners = set(self._partners(node.output[0]))
        fitting = candidates & partners if len(candidates) > 1 else candidates
        if len(fitting) != 1:
            told = " or ".join("x".join(map(str, c)) for c in sorted(candidates, key=str))
            raise _baked(f"an output of {told or 'unknown size'}", self.size, node.name)
        return tuple(int(length) for length in next(iter(fitting)) if length is not None)

    def _partners(self, name: str) -> Iterator[Shape]:
        """Sizes of the maps, known already, that a tensor is added to or joined with."""
        rank = len(self.old[name])
        for reader in self.readers.get(name, []):
            others = [n for n in reader.input if n and n != name and n in self.new and len(self.new[n]) == rank]
            joined = reader.op_type == "Concat" or reader.op_type in ELEMENTWISE
            if joined and others:
                spatial = [self.new[n][2:] for n in others if n in self.made and prod(self.old[n][2:]) > 1]
                yield from spatial
            elif joined:
                yield from self._partners(reader.output[0])

    def _reshape(self, node: onnx.NodeProto) -> None:
        source, result = node.input[0], node.output[0]
        entries = [int(v) for v in numpy_helper.to_array(self.constants[node.input[1]])]
        total = prod(self.new[source])
        shapes = {self.new[n] for n in self.made if self.old[n] == self.old[result] and prod(self.new[n]) == total}
        regrouped = regroup(self.old[source], self.new[source], self.old[result], entries)
        shapes |= {regrouped} if regrouped is not None else set()
        if len(shapes) != 1:
            raise _baked(f"a reshape to {self.old[result]}", self.size, node.name)
        target = next(iter(shapes))
        kept = [e if e in (0, -1) else length for e, length in zip(entries, target)]
        self._constant(node, 1, kept)

    def _slice(self, node: onnx.NodeProto) -> None:
        values = [numpy_helper.to_array(self.constants[name]).tolist() for name in node.input[1:] if name]
        axes = values[2] if len(values) > 2 else list(range(len(values[0])))
        shape, ends = self.old[node.input[0]], list(values[1])
        for place, axis in enumerate(axes):
            if self.new[node.input[0]][axis] == shape[axis] or ends[place] > shape[axis]:
                continue
            if values[0][place] != 0 or ends[place] != shape[axis]:
                raise _baked(f"a slice {values[0][place]}:{ends[place]} of {shape[axis]}", self.size, node.name)
            ends[place] = self.new[node.input[0]][axis]
        self._constant(node, 2, ends)

    def _expand(self, node: onnx.NodeProto) -> None:
        """Nothing to do as long as no expanded axis has a size that changes elsewhere."""
        spatial = self.old[node.output[0]][2:]
        sizes = set(self._like(spatial)) - {spatial}
        written = numpy_helper.to_array(self.constants[node.input[1]])[2:]
        if sizes and (written > 1).any():
            raise _baked("a tensor repeated to the size of a map", self.size, node.name)

    def _pool(self, node: onnx.NodeProto) -> None:
        window = [n // k for n, k in zip(self.new[node.input[0]][2:], self.old[node.output[0]][2:])]
        if [w * k for w, k in zip(window, self.old[node.output[0]][2:])] != list(self.new[node.input[0]][2:]):
            raise _baked("windows of unequal size", self.size, node.name)
        kept = [a for a in node.attribute if a.name not in {"kernel_shape", "strides"}]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.extend(helper.make_attribute(name, window) for name in ("kernel_shape", "strides"))


def _may_adapt(node: onnx.NodeProto, old: dict[str, Shape]) -> bool:
    """An average pooling whose windows tile the map: the exporter writes adaptive pooling so."""
    if node.op_type != "AveragePool":
        return False
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    window = list(values["kernel_shape"])
    tiled = [n == k * w for n, k, w in zip(old[node.input[0]][2:], old[node.output[0]][2:], window)]
    return all(tiled) and list(values.get("strides", [])) == window and not any(values.get("pads", []))


def _typed(kind: int, shape: Shape) -> TypeProto:
    return helper.make_tensor_type_proto(kind, shape)


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the large arrays."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    small = [t for t in bare.graph.initializer if t.data_type != TensorProto.FLOAT or prod(t.dims) <= 8]
    copies = [TensorProto.FromString(t.SerializeToString()) for t in small]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(copies)
    return bare


def _arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    large = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and prod(t.dims) > 8]
    return {t.name: np.empty(tuple(t.dims), np.float32) for t in large}


def _baked(what: str, size: tuple[int, int], where: str) -> ModelError:
    return ModelError(
        f"a graph that can be written for {size[0]}x{size[1]} images",
        received=what,
        where=f"node {where!r}" if where else "elastic graph",
        cure="take a height and width that are the example's times a whole number, or export the model at this size",
    )
