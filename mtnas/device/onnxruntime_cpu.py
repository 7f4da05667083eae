"""A network in onnxruntime's CPU provider."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import Any, Mapping, Sequence

import numpy as np

from .inputs import Arrays, Call
from .layer_names import FileNames, layer_table

_KERNEL = "_kernel_time"
_BLOCKED = "_nchwc"


class OnnxruntimeNetwork:
    """Inputs and outputs are bound once, so that a run copies nothing."""

    package = "onnxruntime"

    def __init__(self, model: bytes | str, threads: int = 1, spinning: bool = False) -> None:
        import onnxruntime as ort

        self._ort, self._settings = ort, (threads, spinning)
        self._model: Any = model
        self._session = self._opened(self._session_options())
        self.version = ort.__version__
        self.options = {
            "provider": "CPUExecutionProvider",
            "intra_op_threads": threads,
            "inter_op_threads": 1,
            "spinning": bool(spinning),
            "graph_optimization": "all",
            "precision": "as in the file",
        }
        self.inputs = [(i.name, _dtype(i.type), _shape(i.shape)) for i in self._session.get_inputs()]
        self.outputs = [o.name for o in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return dict(zip(self.outputs, self._session.run(self.outputs, inputs)))

    def bind(self, inputs: Mapping[str, np.ndarray]) -> Call:
        """A call without arguments that runs on these inputs, into outputs allocated here."""
        session, binding = self._session, self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)))
        for name, value in self.run(inputs).items():
            binding.bind_ortvalue_output(name, self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)))
        return lambda: session.run_with_iobinding(binding)

    def layers(self, inputs: Mapping[str, np.ndarray], runs: int) -> list[dict[str, Any]]:
        """Median milliseconds of each executed node over `runs` runs, in a session of its own; fused stays fused."""
        folder = tempfile.mkdtemp(prefix="mtnas-layers-")
        try:
            options = self._session_options()
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(folder, "profile")
            options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
            session = self._opened(options)
            for _ in range(runs + 1):
                session.run(self.outputs, inputs)
            with open(session.end_profiling(), encoding="utf-8") as stream:
                taken, kinds = _node_times(json.load(stream))
            made = FileNames(options.optimized_model_filepath).written
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        names = FileNames(self._model)
        outputs = {name: _tensors(name, made.get(name, []), names) for name in kinds}
        return layer_table(taken[1:], kinds, outputs)

    def close(self) -> None:
        self._session = self._model = None

    def _session_options(self) -> Any:
        threads, spinning = self._settings
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = self._ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        return options

    def _opened(self, options: Any) -> Any:
        return self._ort.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])


def _node_times(events: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, float]], dict[str, str]]:
    """For each run milliseconds by node, and each node's operator."""
    taken: list[dict[str, float]] = [{}]
    kinds = {}
    for event in sorted(events, key=lambda e: e["ts"]):
        if event["name"] == "model_run":
            taken.append({})
        elif event["cat"] == "Node" and event["name"].endswith(_KERNEL):
            name = event["name"][: -len(_KERNEL)]
            taken[-1][name] = taken[-1].get(name, 0.0) + event["dur"] / 1e3
            kinds[name] = event["args"].get("op_name", "")
    return [run for run in taken if run], kinds


def _tensors(name: str, made: Sequence[str], names: FileNames) -> list[str]:
    """A node in blocked layout is named after the tensor it writes; others are looked up by name, then by output."""
    plain = name[: -len(_BLOCKED)] if name.endswith(_BLOCKED) else name
    return names.of(plain) or [tensor for tensor in made if tensor in names.tensors]


def _dtype(text: str) -> str:
    name = text[len("tensor(") : -1]
    return {"float": "float32", "double": "float64"}.get(name, name)


def _shape(dims: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(d if isinstance(d, int) else None for d in dims)
