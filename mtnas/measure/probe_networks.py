"""Small networks whose only difference is their width: chains of equal convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.seeds import generator

#: every fourth width, where kernels have their blocks, and some between, so that a step of 4 is seen as one
WIDTHS = tuple(sorted({*range(8, 97, 4), 30, 33, 37, 42, 45, 50, 54, 58, 61, 66, 70, 74}))
_DEPTH = 4


def conv3x3(width: int) -> onnx.ModelProto:
    """3x3 convolutions on 14 x 14."""
    return _chain(width, kernel=3, side=14, depthwise=False)


def conv1x1(width: int) -> onnx.ModelProto:
    """1x1 convolutions on 28 x 28."""
    return _chain(width, kernel=1, side=28, depthwise=False)


def depthwise3x3(width: int) -> onnx.ModelProto:
    """3x3 convolutions of one channel each, on 28 x 28."""
    return _chain(width, kernel=3, side=28, depthwise=True)


KINDS: Mapping[str, Callable[[int], onnx.ModelProto]] = {
    "conv3x3": conv3x3,
    "conv1x1": conv1x1,
    "depthwise3x3": depthwise3x3,
}
#: convolutions over all channels are nearly all of a network's time; depthwise ones are bound by memory
DEFAULT_KINDS = ("conv3x3", "conv1x1")


def _chain(width: int, *, kernel: int, side: int, depthwise: bool) -> onnx.ModelProto:
    """From an RGB image to `width` channels, then equal convolutions, each with a ReLU."""
    rng, nodes, weights, value = generator(0, "measure", "probe"), [], [], "image"
    for layer in range(_DEPTH + 1):
        group = width if depthwise and layer else 1
        into = (width if layer else 3) // group
        array_OIKK = rng.standard_normal((width, into, kernel, kernel)) / np.sqrt(into * kernel**2)
        weights.append(numpy_helper.from_array(array_OIKK.astype(np.float32), f"w{layer}"))
        pads = [kernel // 2] * 4
        nodes.append(helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], pads=pads, group=group))
        value = "out" if layer == _DEPTH else f"r{layer}"
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [value]))
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, side, side))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, width, side, side))],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
