"""Small networks and a quick protocol for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mtnas.measure.config import MeasureConfig


def conv_chain(width: int, depth: int = 3, side: int = 16) -> bytes:
    """`depth` 3x3 convolutions of `width` channels with ReLU, on a side x side image."""
    rng, nodes, weights, value = np.random.default_rng(0), [], [], "image"
    for i in range(depth):
        shape = (width, 3 if i == 0 else width, 3, 3)
        array = (rng.standard_normal(shape) / np.sqrt(9 * shape[1])).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w{i}"))
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        value = f"r{i}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, side, side))],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, (1, width, side, side))],
        weights,
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


@pytest.fixture(scope="session")
def chain() -> Callable[..., bytes]:
    return conv_chain


@pytest.fixture(scope="session")
def quick() -> MeasureConfig:
    """Few short rounds: enough for differences of a factor, not for percents."""
    return MeasureConfig(
        rounds=6, max_rounds=10, round_ms=1.0, round_runs=5, warmup_ms=5, warmup_cap_ms=100, samples=12, processes=2
    )
