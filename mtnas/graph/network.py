"""The graph in memory: nodes and small constants in one skeleton, weights beside it, and a label for every axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mtnas.base.errors import ModelError
from mtnas.base.groups import ChannelGroup
from mtnas.graph.follow import Site, attributes_of, follow
from mtnas.graph.labels import BATCH, Labelled, Units

IMAGE = "image"


@dataclass(frozen=True)
class Network:
    """A graph split into what is copied (skeleton) and what is sliced (weights).

    Args:
        skeleton: nodes, input, outputs, constants that are no weights; traced with two images.
        weights: full-size arrays by state name.
        units: the numbering of all units.
        labels: shape and labels of every tensor.
    """

    skeleton: onnx.ModelProto
    weights: Mapping[str, np.ndarray]
    units: Units
    labels: Mapping[str, Labelled]


def split_weights(model: onnx.ModelProto, names: Sequence[str]) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The skeleton of a model, and the initializers that are named as arrays."""
    wanted = set(names)
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in wanted}
    constants = [t for t in model.graph.initializer if t.name not in wanted]
    skeleton = onnx.ModelProto()
    skeleton.ir_version = model.ir_version
    skeleton.opset_import.extend(model.opset_import)
    graph = skeleton.graph
    graph.name = "mtnas"
    graph.node.extend(model.graph.node)
    graph.initializer.extend(constants)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    name_nodes(graph)
    return skeleton, weights


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own."""
    seen: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)


def set_batch(model: onnx.ModelProto, batch: int | str) -> None:
    """Write the batch axis of the input and of every output: a number, or a name when any number will do."""
    for value in [*model.graph.input, *model.graph.output]:
        dims = value.type.tensor_type.shape.dim
        if not dims:
            continue
        dims[0].Clear()
        if isinstance(batch, str):
            dims[0].dim_param = batch
        else:
            dims[0].dim_value = batch


def infer_shapes(skeleton: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Static shapes of all tensors for two images; weights enter by shape only."""
    probe = onnx.ModelProto()
    probe.CopyFrom(skeleton)
    set_batch(probe, BATCH)
    del probe.graph.value_info[:]
    for output in probe.graph.output:
        output.type.tensor_type.ClearField("shape")
    for name, array in weights.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        probe.graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
    inferred = onnx.shape_inference.infer_shapes(probe, strict_mode=True, data_prop=True).graph
    shapes: dict[str, tuple[int, ...]] = {}
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in skeleton.graph.initializer})
    return shapes


def label_all(skeleton: onnx.ModelProto, weights: Mapping[str, np.ndarray], units: Units) -> dict[str, Labelled]:
    """Shape and labels of every tensor of the graph."""
    shapes = infer_shapes(skeleton, weights)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in skeleton.graph.initializer}
    axes = units.parameter_axes({name: array.shape for name, array in weights.items()})
    labels = {name: Labelled(array.shape, axes.get(name, {})) for name, array in weights.items()}
    labels.update({name: Labelled(array.shape) for name, array in constants.items()})
    labels[IMAGE] = Labelled(shapes[IMAGE], {0: np.arange(BATCH)})
    for node in skeleton.graph.node:
        site = make_site(node, labels, constants, shapes)
        for name, found in zip(node.output, follow(site), strict=True):
            if name:
                labels[name] = Labelled(shapes[name], found)
    return labels


def make_site(
    node: onnx.NodeProto,
    labels: Mapping[str, Labelled],
    constants: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
) -> Site:
    missing = [name for name in node.output if name and name not in shapes]
    if missing:
        raise ModelError(
            "a graph whose shapes do not depend on the image's values",
            received=f"no static shape for {missing[0]!r}",
            where=f"{node.op_type} node {node.name!r}",
            cure="avoid data-dependent shapes in forward()",
        )
    return Site(
        node,
        tuple(labels[name] if name else None for name in node.input),
        tuple(constants.get(name) for name in node.input),
        tuple(shapes[name] if name else () for name in node.output),
        attributes_of(node),
    )


def make_network(
    skeleton: onnx.ModelProto, weights: Mapping[str, np.ndarray], groups: Sequence[ChannelGroup]
) -> Network:
    """Follow the groups through a graph; raises `ModelError` where a cut would not be sound."""
    units = Units(groups)
    labels = label_all(skeleton, weights, units)
    for output in skeleton.graph.output:
        if set(labels[output.name].axes) - {0}:
            raise ModelError(
                "outputs that keep their channels",
                received=f"a group that may shrink reaches output {output.name!r}",
                where="channel groups",
                cure="freeze the group that produces this output",
            )
    return Network(skeleton, weights, units, labels)
