"""Networks for the exam of runtimes, and a way to open one that skips, with the reason, where something is missing."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
import zoo
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.errors import DeviceMissing, PackageMissing
from mtnas.base.seeds import generator
from mtnas.base.tables import lookup
from mtnas.elastic.model import make_elastic
from mtnas.encoders.make import make_encoder
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.prove import random_selection
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet
from mtnas.measure.runtimes.base import RuntimeOptions, Session
from mtnas.measure.runtimes.table import RUNTIMES
from mtnas.quantize.timing import timing_copy

#: rows that take seconds to open a network; their exam opens fewer and smaller ones
SLOW_TO_OPEN = {"torch-compiled", "torch-cuda-compiled"}


def open_row(name: str, model: bytes, **options: int) -> Session:
    """A session of one row of the table."""
    try:
        return lookup(name, RUNTIMES, "runtime")(model, RuntimeOptions(**options))
    except (PackageMissing, DeviceMissing) as error:
        pytest.skip(str(error))


def affine_model(batch: int | str = 2) -> bytes:
    """Two named outputs: 2x + 1, and the sum over features."""
    nodes = [
        helper.make_node("Mul", ["image", "two"], ["m"]),
        helper.make_node("Add", ["m", "one"], ["affine"]),
        helper.make_node("ReduceSum", ["image", "axis"], ["total"], keepdims=1),
    ]
    weights = {"two": np.float32([2]), "one": np.float32([1]), "axis": np.int64([1])}
    return _file(nodes, weights, {"image": (batch, 3)}, {"affine": (batch, 3), "total": (batch, 1)})


def stack_model(width: int, side: int = 24, layers: int = 4) -> bytes:
    """Convolutions 3x3, each with a ReLU; the last value is the output `out`."""
    rng, nodes, weights, value = np.random.default_rng(0), [], {}, "image"
    for i in range(layers):
        before = 3 if i == 0 else width
        array = rng.standard_normal((width, before, 3, 3)) / np.sqrt(9 * before)
        weights[f"w{i}"] = array.astype(np.float32)
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], name=f"conv{i}", pads=[1, 1, 1, 1]))
        value = "out" if i == layers - 1 else f"r{i}"
        nodes.append(helper.make_node("Relu", [f"c{i}"], [value], name=f"relu{i}"))
    return _file(nodes, weights, {"image": (1, 3, side, side)}, {"out": (1, width, side, side)})


def heavy_model(size: int = 1024) -> bytes:
    """One matrix of `4 * size**2` bytes and hardly any work."""
    weight = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32) / size
    node = helper.make_node("MatMul", ["image", "w"], ["out"], name="matmul")
    return _file([node], {"w": weight}, {"image": (1, size)}, {"out": (1, size)})


@functools.cache
def two_heads(encoder: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray], np.ndarray]:
    """A cut of one of our encoders with two heads, the outputs of the extracted torch module, and its image."""
    body = make_encoder(encoder, width=16, depth=(1, 1, 1))
    channels = [level.channels for level in body.levels]
    heads = {
        "segmentation": make_head("fpn", level_channels=channels, channels=5, width=16),
        "presence": make_head("pooled", level_channels=channels, channels=6, width=16),
    }
    model = MultiTaskNet(body, heads)
    zoo.randomise(model)
    elastic = make_elastic(model.eval(), zoo.image(), round_to=4)
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    graph = build_elastic_graph(elastic.model, elastic.example, elastic.groups)
    chosen = random_selection(graph, generator(0, "runtimes"))
    statistics, picture = elastic.statistics(chosen), zoo.image(1, seed=4)
    with torch.no_grad():
        expected = elastic.extract(chosen, statistics=statistics)(picture)
    cut = graph.cut(chosen, statistics={name: value.numpy() for name, value in statistics.items()})
    return cut, {task: value.numpy() for task, value in expected.items()}, picture.numpy()


@functools.cache
def quantized_two_heads() -> onnx.ModelProto:
    """The same network with explicit Q/DQ pairs: signed, zero point 0, as every runtime here takes them."""
    return timing_copy(two_heads("resnet")[0], "tensorrt")


def _file(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: dict[str, tuple[int | str, ...]],
    outputs: dict[str, tuple[int | str, ...]],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "subject",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
