"""A network in OpenVINO's CPU plugin, precision pinned: left alone it runs float32 files in bfloat16."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from .inputs import Arrays, Call


class OpenvinoNetwork:
    """Inputs share their memory with the caller."""

    package = "openvino"

    def __init__(self, model: bytes | str, threads: int = 1, spinning: bool = False) -> None:
        import openvino as ov

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        core = ov.Core()
        self._compiled = core.compile_model(core.read_model(model), "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self._tensor = ov.Tensor
        self.version = ov.__version__
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.options = {"device": "CPU", "threads": threads, "streams": 1, "hint": "LATENCY", "precision": precision}
        self.inputs = [
            (port.get_any_name(), np.dtype(port.get_element_type().to_dtype()).name, _shape(port))
            for port in self._compiled.inputs
        ]
        self.outputs = [port.get_any_name() for port in self._compiled.outputs]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        self.bind(inputs)()
        return {name: self._request.get_tensor(name).data.copy() for name in self.outputs}

    def bind(self, inputs: Mapping[str, np.ndarray]) -> Call:
        """A call without arguments that runs on these inputs, whose memory is shared."""
        for name, value in inputs.items():
            self._request.set_tensor(name, self._tensor(np.ascontiguousarray(value), shared_memory=True))
        return self._request.infer

    def close(self) -> None:
        self._request = self._compiled = None


def _shape(port: Any) -> tuple[Any, ...]:
    return tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
