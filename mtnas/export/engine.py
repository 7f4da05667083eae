"""What is known about a TensorRT engine: where it came from, its layers, and that it was not executed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "engine/1"
NOT_EXECUTED = "not executed"


@dataclass(frozen=True)
class EngineLayer:
    """One layer of the built engine; fused layers carry the joined names of what they hold."""

    name: str
    kind: str
    precision: str


@dataclass(frozen=True)
class EngineResult:
    """A built engine and where it came from.

    Args:
        file, sha256: the engine.
        key: hash of ONNX file, TensorRT version, GPU and settings.
        onnx_sha256: the file it was built from.
        tensorrt, gpu: what it is bound to.
        layers: as the engine's inspector tells.
        tensors: names of its inputs and outputs.
        seconds: time the build took; 0 when the engine was there already.
        reused: an engine of the same key was there already.
        executed: whether it ever ran; False here, always.
    """

    file: str
    sha256: str
    key: str
    onnx_sha256: str
    tensorrt: str
    gpu: str
    layers: tuple[EngineLayer, ...]
    tensors: tuple[str, ...]
    seconds: float
    reused: bool = False
    executed: bool = False

    @property
    def label(self) -> str:
        """How the engine is shown wherever results appear."""
        return f"TensorRT {self.tensorrt} on {self.gpu}" + ("" if self.executed else f" ({NOT_EXECUTED})")

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self), "label": self.label}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> EngineResult:
        values = {key: value for key, value in data.items() if key not in {"schema", "label"}}
        values["layers"] = tuple(EngineLayer(**item) for item in values["layers"])
        values["tensors"] = tuple(values["tensors"])
        return EngineResult(**values)


def read_layers(text: str) -> tuple[tuple[EngineLayer, ...], tuple[str, ...]]:
    """Layers and tensor names from the inspector's JSON: `Bindings` in 10.x, `I/O Tensors` in 11.x."""
    data = json.loads(text)
    layers = tuple(_layer(item) for item in data.get("Layers", ()))
    tensors = data.get("I/O Tensors", data.get("Bindings", ()))
    return layers, tuple(item["Name"] if isinstance(item, Mapping) else item for item in tensors)


def _layer(item: Any) -> EngineLayer:
    """A layer is a bare name unless the engine was built with detailed profiling."""
    if isinstance(item, str):
        return EngineLayer(item, "", "")
    outputs = item.get("Outputs") or [{}]
    first = outputs[0] if isinstance(outputs[0], Mapping) else {}
    precision = first.get("Datatype") or first.get("Format/Datatype", "")
    return EngineLayer(item.get("Name", ""), item.get("LayerType", ""), str(precision))
