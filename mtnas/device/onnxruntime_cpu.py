"""A network in onnxruntime's CPU provider."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from .inputs import Arrays, Call


class OnnxruntimeNetwork:
    """Inputs and outputs are bound once, so that a run copies nothing."""

    package = "onnxruntime"

    def __init__(self, model: bytes | str, threads: int = 1, spinning: bool = False) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        self._ort = ort
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
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

    def close(self) -> None:
        self._session = None


def _dtype(text: str) -> str:
    name = text[len("tensor(") : -1]
    return {"float": "float32", "double": "float64"}.get(name, name)


def _shape(dims: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(d if isinstance(d, int) else None for d in dims)
