"""A network in OpenVINO's CPU plugin, precision pinned: left alone it runs float32 files in bfloat16."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from .inputs import Arrays, Call
from .layer_names import FileNames, layer_table

_BLOCK = 10


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
        self._ov, self._settings = ov, settings
        self._model: Any = model
        self._compiled = self._compile(settings)
        self._request = self._compiled.create_infer_request()
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
        return self._set(self._request, inputs)

    def layers(self, inputs: Mapping[str, np.ndarray], runs: int) -> list[dict[str, Any]]:
        """Median milliseconds of each executed layer over `runs` runs, compiled anew with counters on.

        The counters give averages since the network was compiled, in whole microseconds. A run is the difference of
        two of them times their counts, whose error grows with the count: so it is compiled again every few runs.
        """
        taken: list[dict[str, float]] = []
        kinds: dict[str, str] = {}
        outputs: dict[str, list[str]] = {}
        names = FileNames(self._model)
        while len(taken) < runs:
            compiled = self._compile(dict(self._settings, PERF_COUNT=True))
            taken += self._counted(compiled, inputs, min(_BLOCK, runs - len(taken)), kinds)
            for layer in compiled.get_runtime_model().get_ops():
                merged = layer.get_rt_info()["originalLayersNames"].value if layer.get_friendly_name() in kinds else ""
                outputs[layer.get_friendly_name()] = names.of_all(merged.split(","))
        return layer_table(taken, kinds, outputs)

    def _counted(
        self, compiled: Any, inputs: Mapping[str, np.ndarray], runs: int, kinds: dict[str, str]
    ) -> list[dict[str, float]]:
        """For each run but the first, milliseconds by layer."""
        request = compiled.create_infer_request()
        call, taken = self._set(request, inputs), []
        before: dict[str, float] = {}
        for count in range(1, runs + 2):
            call()
            executed = [info for info in request.get_profiling_info() if info.status == info.Status.EXECUTED]
            kinds.update({info.node_name: info.node_type for info in executed})
            total = {info.node_name: count * info.real_time.total_seconds() * 1e3 for info in executed}
            taken.append({name: max(0.0, ms - before.get(name, 0.0)) for name, ms in total.items()})
            before = total
        return taken[1:]

    def close(self) -> None:
        self._request = self._compiled = self._model = None

    def _set(self, request: Any, inputs: Mapping[str, np.ndarray]) -> Call:
        for name, value in inputs.items():
            request.set_tensor(name, self._ov.Tensor(np.ascontiguousarray(value), shared_memory=True))
        return request.infer

    def _compile(self, settings: Mapping[str, Any]) -> Any:
        core = self._ov.Core()
        return core.compile_model(core.read_model(self._model), "CPU", dict(settings))


def _shape(port: Any) -> tuple[Any, ...]:
    return tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
