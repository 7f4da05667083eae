"""A small elastic network for the tests of this room: four convolutions, four groups, cut by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.groups import Selection
from mtnas.measure.config import MeasureConfig
from mtnas.measure.profile import build_profile

FULL = (32, 32, 64, 64)
SIDE = 24


def quick_config(samples: int = 16, **changes: object) -> MeasureConfig:
    """Few short rounds: enough for differences of a factor, not for percents."""
    settings: dict[str, object] = {
        "rounds": 6,
        "max_rounds": 10,
        "round_ms": 1.0,
        "round_runs": 5,
        "warmup_ms": 5,
        "warmup_cap_ms": 100,
        "processes": 2,
        "certify_rounds": 8,
        "samples": samples,
    }
    return MeasureConfig(**{**settings, **changes})


def widths(selection: Selection) -> list[int]:
    kept = selection.as_dict
    return [len(kept[f"g{i}"]) if f"g{i}" in kept else full for i, full in enumerate(FULL)]


def selection(*widths: int) -> Selection:
    return Selection.prefix({f"g{i}": width for i, width in enumerate(widths)})


def pool(count: int = 60) -> list[Selection]:
    rng = np.random.default_rng(0)
    random = [selection(*(int(rng.choice([f // 4, f // 2, 3 * f // 4, f])) for f in FULL)) for _ in range(count)]
    return [*random, selection(*FULL), selection(*(f // 4 for f in FULL))]


def cut(chosen: Selection) -> bytes:
    rng, nodes, weights, value, channels = np.random.default_rng(0), [], [], "image", 3
    for i, width in enumerate(widths(chosen)):
        array = (rng.standard_normal((width, channels, 3, 3)) / np.sqrt(9 * channels)).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w{i}"))
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        value, channels = f"r{i}", width
    graph = helper.make_graph(
        nodes,
        "subject",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, SIDE, SIDE))],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, (1, channels, SIDE, SIDE))],
        weights,
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def features(chosen: Selection) -> np.ndarray:
    """Multiply-adds, the same with channels rounded up to 16, and values written; per layer and in total."""
    wide = np.array([3, *widths(chosen)], dtype=float)
    whole = np.ceil(wide / 16) * 16
    kinds = [wide[:-1] * wide[1:] * 9 * SIDE**2, whole[:-1] * whole[1:] * 9 * SIDE**2, wide[1:] * SIDE**2]
    return np.concatenate([*kinds, [kind.sum() for kind in kinds]])


if __name__ == "__main__":  # for the test that kills a profile in the middle
    build_profile(cut, features, pool(), quick_config(int(sys.argv[2])), Path(sys.argv[1]))
