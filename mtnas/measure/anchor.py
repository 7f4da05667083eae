"""Two fixed networks: the anchor that runs in every round on every device, and one of no size.

The anchor never changes: its movement tells how the machine moved, and its latency links one profile to another.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from mtnas.base.optional import require
from mtnas.base.seeds import generator

_CHANNELS, _DEPTH, _SIDE = 32, 4, 28


@cache
def anchor_model() -> bytes:
    """Four 3x3 convolutions with 32 channels on 28x28, each with a ReLU; weights from a fixed seed."""
    helper = require("onnx").helper
    rng, nodes, weights, value = generator(0, "measure", "anchor"), [], {}, "image"
    for i in range(_DEPTH):
        fan_in = (3 if i == 0 else _CHANNELS) * 9
        shape = (_CHANNELS, 3 if i == 0 else _CHANNELS, 3, 3)
        weights[f"w{i}"] = (rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        value = "out" if i == _DEPTH - 1 else f"r{i}"
        nodes.append(helper.make_node("Relu", [f"c{i}"], [value]))
    return _serialise(nodes, weights, (1, 3, _SIDE, _SIDE), (1, _CHANNELS, _SIDE, _SIDE))


@cache
def empty_model() -> bytes:
    """One addition of one number: what a call costs by itself."""
    helper = require("onnx").helper
    node = helper.make_node("Add", ["image", "w0"], ["out"])
    return _serialise([node], {"w0": np.ones(1, np.float32)}, (1, 1), (1, 1))


def _serialise(
    nodes: list[object], weights: dict[str, np.ndarray], image: tuple[int, ...], out: tuple[int, ...]
) -> bytes:
    onnx = require("onnx")
    graph = onnx.helper.make_graph(
        nodes,
        "mtnas",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, image)],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, out)],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = onnx.helper.make_opsetid("", 20)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return bytes(model.SerializeToString())
