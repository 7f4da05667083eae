"""What OpenVINO's CPU plugin has made of a file: the precision and the kernel of every layer that computes.

Read from the compiled network's runtime model. Left alone, the plugin runs float32 files in bfloat16 on CPUs that have
it; `Hint` tells what it chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtnas.base.optional import require

_MOVING = {"Input", "Output", "Const", "Reorder", "Reshape", "Transpose", "FakeQuantize", "Convert"}


@dataclass(frozen=True)
class Kernel:
    """One layer as it runs: its type, the precision it computes in, and the kernel's name."""

    name: str
    kind: str
    precision: str
    primitive: str

    @property
    def is_integer(self) -> bool:
        return self.precision.lower() in {"i8", "u8"} or self.primitive.lower().endswith(("_i8", "_u8"))


def kernels(model: bytes, pinned: bool = True) -> tuple[str, tuple[Kernel, ...]]:
    """The precision hint in force, and the computing layers.

    Args:
        model: ONNX bytes.
        pinned: ask for float32, as measuring does; otherwise leave the plugin its choice.
    """
    ov = require("openvino", extra="openvino", why="reading what it runs")
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    if pinned:
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    core = ov.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        words = {key: node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision", "primitiveType")}
        if words["layerType"] not in _MOVING:
            found.append(
                Kernel(node.get_friendly_name(), words["layerType"], words["runtimePrecision"], words["primitiveType"])
            )
    return compiled.get_property("INFERENCE_PRECISION_HINT").to_string(), tuple(found)
