"""Two convolutions with Q/DQ pairs: small enough to ask every runtime what it really runs as int8.

The file says int8 everywhere; only the graph that a runtime has made of it tells which kernels run. Unsigned
activations are the dialect of x64 CPU runtimes: their clamp at 0 is the ReLU. Signed ones with zero point 0, the only
ones that TensorRT takes, leave a ReLU between the layer and its quantizer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.seeds import generator
from mtnas.quantize.check import int8_report

CHANNELS, SIDE = 16, 16
CONVOLUTIONS = 2


def tiny_quantized(signed: bool) -> onnx.ModelProto:
    """image (1, 16, 16, 16) -> Q/DQ -> [Conv -> ReLU -> Q/DQ] twice; weights are int8 with one scale."""
    kind = np.int8 if signed else np.uint8
    rng = generator(0, "quantize", "probe")
    arrays: dict[str, Any] = {"scale": np.float32(0.05), "zero": kind(0), "w_zero": np.int8(0)}
    nodes = _pair("image", "q0")
    value = "q0"
    for i in range(CONVOLUTIONS):
        weight = rng.integers(-127, 128, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8)
        arrays[f"w{i}"] = weight
        nodes.append(helper.make_node("DequantizeLinear", [f"w{i}", "scale", "w_zero"], [f"w{i}_float"]))
        inputs = [value, f"w{i}_float"]
        nodes.append(helper.make_node("Conv", inputs, [f"c{i}"], name=f"conv{i}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}"))
        value = f"q{i + 1}"
        nodes += _pair(f"r{i}", value)
    shape = (1, CHANNELS, SIDE, SIDE)
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def onnxruntime_int8(signed: bool) -> int:
    """How many of the two convolutions onnxruntime runs with integer kernels here."""
    return sum("Conv" in kind for _, kind in int8_report(tiny_quantized(signed)).int8)


def _pair(source: str, target: str) -> list[onnx.NodeProto]:
    middle = f"{target}_int"
    return [
        helper.make_node("QuantizeLinear", [source, "scale", "zero"], [middle]),
        helper.make_node("DequantizeLinear", [middle, "scale", "zero"], [target]),
    ]
