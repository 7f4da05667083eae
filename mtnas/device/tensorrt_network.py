"""A network in TensorRT on an NVIDIA GPU, engine built where it runs.

Not executed on the machine this was written on, which has no GPU: checked against the listed surfaces of TensorRT
10.13, 10.16 and 11.4. A run is timed with CUDA events from an idle GPU, inputs and outputs resident there; copies
between processor and GPU are not part of it. Needs TensorRT and the CUDA runtime library, neither torch nor onnx.
"""

from __future__ import annotations

import os
from typing import Any, Mapping

import numpy as np

from .cudart import Cuda, CudaError, gpu_name
from .inputs import Arrays
from .layer_names import layer_table
from .tensorrt_build import BUILD, LEAST_VERSION, Engines, layer_facts, own_folder, version_of

_TYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32"}
_TYPES.update(INT64="int64", BOOL="bool")


class TensorrtNetwork:
    """One engine; every bound call has a context, buffers and a stream of its own, freed when the network is closed."""

    package = "tensorrt"
    replayed = False

    def __init__(self, model: Any, threads: int = 1, spinning: bool = False) -> None:
        import tensorrt as trt

        lacking = self.lacks()
        if lacking:
            raise RuntimeError(lacking)
        self._trt, self._cuda, self._bound = trt, Cuda(), []  # type: ignore[var-annotated]
        self._logger = _logger(trt)
        gpu, capability = gpu_name(), self._cuda.compute_capability()
        folder, data = _source(model)
        serialized = Engines(trt, self._logger, folder, gpu + " " + capability).of(data)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(serialized)
        if self._engine is None:
            raise ValueError("; ".join(self._logger.messages[:3]) or "the engine was not loaded")
        self._engine_bytes = len(serialized)
        self.version = trt.__version__
        self.options = {
            "gpu": gpu,
            "compute_capability": capability,
            "cuda": self._cuda.runtime_version(),
            "build": dict(BUILD),
            "precision": "as in the file (strongly typed)",
            "cuda_graph": self.replayed,
            "clock": "CUDA events",
            "host_threads": 1,
        }
        self._describe_tensors()

    @classmethod
    def lacks(cls) -> str:
        """What this machine lacks for this runtime; empty when nothing."""
        import tensorrt as trt

        if version_of(trt) < LEAST_VERSION:
            return "TensorRT 10.3 or later is needed, and this is " + trt.__version__
        try:
            return "" if Cuda().devices() else "no NVIDIA GPU is seen"
        except CudaError as error:
            return str(error)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        execution = self._execution(inputs)
        try:
            execution()
            return execution.outputs()
        finally:
            execution.close()

    def bind(self, inputs: Mapping[str, np.ndarray]) -> Execution:
        """A call without arguments that runs on these inputs, which are on the GPU from now on."""
        execution = self._execution(inputs)
        if self.replayed:
            execution.capture()
        self._bound.append(execution)
        return execution

    def layers(self, inputs: Mapping[str, np.ndarray], runs: int) -> list[dict[str, Any]]:
        """Median milliseconds of each layer over `runs` runs, in a context of its own with a profiler."""
        inspector = self._engine.create_engine_inspector()
        kinds, outputs = layer_facts(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))
        execution = self._execution(inputs)
        try:
            taken = execution.profiled(_profiler(self._trt), runs + 1)
        finally:
            execution.close()
        return layer_table(taken[1:], kinds, outputs)

    def peak_mb(self) -> float:
        """Device memory in MB (1e6 bytes): the engine with its weights, its activations, and the buffers in use."""
        scratch = getattr(self._engine, "device_memory_size_v2", None)
        scratch = self._engine.device_memory_size if scratch is None else scratch
        buffers = max([execution.size_bytes for execution in self._bound] or [0])
        return (self._engine_bytes + int(scratch) + buffers) / 1e6

    def close(self) -> None:
        for execution in self._bound:
            execution.close()
        self._bound = []
        self._engine = self._runtime = None

    def _execution(self, inputs: Mapping[str, np.ndarray]) -> Execution:
        return Execution(self._cuda, self._engine.create_execution_context(), inputs, self._outputs)

    def _describe_tensors(self) -> None:
        engine, mode = self._engine, self._trt.TensorIOMode
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self.inputs = [
            (name, self._dtype(name), tuple(None if d < 0 else int(d) for d in engine.get_tensor_shape(name)))
            for name in names
            if engine.get_tensor_mode(name) == mode.INPUT
        ]
        self._outputs = {name: self._dtype(name) for name in names if engine.get_tensor_mode(name) == mode.OUTPUT}
        self.outputs = list(self._outputs)

    def _dtype(self, name: str) -> str:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _TYPES:
            raise ValueError("tensor " + name + " of type " + kind + " cannot be filled from here")
        return _TYPES[kind]


class TensorrtGraphNetwork(TensorrtNetwork):
    """The launches of a run are recorded once as a CUDA graph and replayed."""

    replayed = True


class Execution:
    """One context with its buffers on one stream; calling it runs once and returns when the GPU has ended."""

    def __init__(self, cuda: Cuda, context: Any, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, str]) -> None:
        self._cuda, self._context = cuda, context
        self._memory: dict[str, int] = {}
        self._graph = 0
        self.size_bytes = 0
        self._stream = cuda.stream()
        try:
            for name, array in inputs.items():
                _agreed(context.set_input_shape(name, tuple(array.shape)), "shape of " + name)
                self._place(name, array.nbytes)
                cuda.to_device(self._memory[name], np.ascontiguousarray(array))
            self._results = {name: np.empty(tuple(context.get_tensor_shape(name)), outputs[name]) for name in outputs}
            for name, result in self._results.items():
                self._place(name, result.nbytes)
            self()  # the first run after a change of shape is slower
        except BaseException:
            self.close()
            raise

    def __call__(self) -> None:
        self._launch()
        self._cuda.synchronize(self._stream)

    def timed(self, count: int) -> list[float]:
        """Milliseconds of each of `count` runs by the GPU's own clock, one after another from an idle GPU."""
        start, end = self._cuda.event(), self._cuda.event()
        times = []
        try:
            for _ in range(count):
                self._cuda.synchronize(self._stream)
                self._cuda.record(start, self._stream)
                self._launch()
                self._cuda.record(end, self._stream)
                times.append(self._cuda.elapsed_ms(start, end))
        finally:
            self._cuda.destroy_event(start)
            self._cuda.destroy_event(end)
        return times

    def capture(self) -> None:
        """From now on runs are replayed."""
        self._cuda.begin_capture(self._stream)
        self._enqueue()
        self._graph = self._cuda.end_capture(self._stream)
        self()

    def profiled(self, profiler: Any, runs: int) -> list[dict[str, float]]:
        """For each run milliseconds by layer."""
        self._context.profiler = profiler
        taken = []
        for _ in range(runs):
            profiler.spent = {}
            self()
            taken.append(profiler.spent)
        return taken

    def outputs(self) -> Arrays:
        """Copies of the results of the last run."""
        for name, result in self._results.items():
            self._cuda.to_host(result, self._memory[name])
        return {name: result.copy() for name, result in self._results.items()}

    def close(self) -> None:
        if self._graph:
            self._cuda.destroy_graph(self._graph)
        for memory in self._memory.values():
            self._cuda.free(memory)
        if self._stream:
            self._cuda.destroy_stream(self._stream)
        self._graph, self._memory, self._stream, self._context = 0, {}, 0, None

    def _launch(self) -> None:
        if self._graph:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()

    def _enqueue(self) -> None:
        _agreed(self._context.execute_async_v3(self._stream), "a run")

    def _place(self, name: str, size_bytes: int) -> None:
        self._memory[name] = self._cuda.allocate(size_bytes)
        self.size_bytes += size_bytes
        _agreed(self._context.set_tensor_address(name, self._memory[name]), "memory of " + name)


def _agreed(done: bool, what: str) -> None:
    if not done:
        raise RuntimeError("TensorRT refused " + what)


def _source(model: Any) -> tuple[str, bytes]:
    """Where engines are kept, and the file's bytes: beside the file where it is one, so that they go with it."""
    if isinstance(model, bytes):
        return own_folder(), model
    folder = os.path.dirname(os.path.abspath(model))
    with open(model, "rb") as stream:
        return folder, stream.read()


def _logger(trt: Any) -> Any:
    """A logger that keeps errors for our own message and says nothing."""

    class Collect(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.messages.append(msg)

    return Collect()


def _profiler(trt: Any) -> Any:
    class Collect(trt.IProfiler):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.spent: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.spent[layer_name] = self.spent.get(layer_name, 0.0) + ms

    return Collect()
