"""Acts out the running of engines: a GPU of bytearrays, and TensorRT objects that compute with onnx's own evaluator.

Nothing here is fast or real; it is strict about order. Work put on a stream runs when the stream is waited for, memory
may be used only while it is allocated, and whatever was made and not destroyed is known.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from trt_standin import Acts, standin
from trt_surface import made

LAYER_MS = 0.25


class Gpu:
    """What `mtnas.device.cudart.Cuda` offers, on a pretended GPU; a run lasts as many ms as it has layers."""

    def __init__(self) -> None:
        self.memory: dict[int, bytearray] = {}
        self.alive: set[int] = set()
        self.waiting: list[Callable[[], None]] = []
        self.captured: dict[int, list[Callable[[], None]]] = {}
        self.capturing = False
        self.now_ms = 0.0
        self.events: dict[int, float] = {}
        self.done: list[str] = []
        self._next = 1000

    def devices(self) -> int:
        return 1

    def runtime_version(self) -> str:
        return "12.6"

    def compute_capability(self) -> str:
        return "8.7"

    def allocate(self, size_bytes: int) -> int:
        handle = self._made()
        self.memory[handle] = bytearray(size_bytes)
        return handle

    def free(self, memory: int) -> None:
        del self.memory[memory]
        self.alive.remove(memory)

    def to_device(self, memory: int, array: np.ndarray) -> None:
        assert array.flags.c_contiguous and array.nbytes == len(self.memory[memory])
        self.memory[memory][:] = array.tobytes()

    def to_host(self, array: np.ndarray, memory: int) -> None:
        assert not self.waiting, "a result was read before the stream was waited for"
        array[...] = np.frombuffer(self.memory[memory], array.dtype).reshape(array.shape)

    def stream(self) -> int:
        return self._made()

    def synchronize(self, stream: int) -> None:
        assert stream in self.alive
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()
        self.done.append("synchronize")

    def destroy_stream(self, stream: int) -> None:
        self.alive.remove(stream)

    def event(self) -> int:
        return self._made()

    def record(self, event: int, stream: int) -> None:
        self.events.pop(event, None)
        self.done.append("record")
        self.put(stream, lambda: self.events.update({event: self.now_ms}))

    def elapsed_ms(self, start: int, end: int) -> float:
        for work in self.waiting:
            work()
        self.waiting = []
        return self.events[end] - self.events[start]

    def destroy_event(self, event: int) -> None:
        self.alive.remove(event)

    def begin_capture(self, stream: int) -> None:
        assert not self.waiting, "work was left on the stream when capture began"
        self.capturing = True

    def end_capture(self, stream: int) -> int:
        handle = self._made()
        self.captured[handle], self.waiting, self.capturing = self.waiting, [], False
        return handle

    def launch(self, graph: int, stream: int) -> None:
        self.done.append("replay")
        for work in self.captured[graph]:
            self.put(stream, work)

    def destroy_graph(self, graph: int) -> None:
        self.alive.remove(graph)

    def put(self, stream: int, work: Callable[[], None]) -> None:
        """Work that runs when somebody waits."""
        assert stream in self.alive
        self.waiting.append(work)

    def _made(self) -> int:
        self._next += 16
        self.alive.add(self._next)
        return self._next


def running(version: str, gpu: Gpu) -> ModuleType:
    """A `tensorrt` module for one version that builds, loads and runs engines on a pretended GPU."""
    return standin(version, lambda trt, acts: {**_reading(trt, acts), **_engine(trt, acts), **_context(gpu)})


def _reading(trt: ModuleType, acts: Acts) -> Acts:
    from_file, build = acts["OnnxParser.parse_from_file"], acts["Builder.build_serialized_network"]
    trt.built = 0  # how often an engine was built

    def parse(self: Any, model: bytes, path: str | None = None) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            file.write_bytes(bytes(model))
            try:
                read = from_file(self, str(file))
            except Exception as error:  # noqa: BLE001 - the real parser returns False whatever was wrong
                self.values["logger"].log(trt.ILogger.ERROR, f"ModelImporter: {type(error).__name__}")
                return False
        self.values["network"].values["model"] = bytes(model)
        return read

    def built(self: Any, network: Any, config: Any) -> Any:
        memory = build(self, network, config)
        if memory is not None:
            trt.built += 1
            model = base64.b64encode(network.values["model"]).decode()
            memory.values["data"] = json.dumps({**json.loads(memory.values["data"]), "model": model}).encode()
        return memory

    return {
        "OnnxParser.parse": parse,
        "Builder.build_serialized_network": built,
        "INetworkDefinition.num_inputs": lambda self: len(self.values["inputs"]),
    }


def _engine(trt: ModuleType, acts: Acts) -> Acts:
    def load(self: Any, serialized_engine: bytes) -> Any:
        engine = acts_load(self, serialized_engine)
        if engine is not None:
            model = onnx.load_model_from_string(base64.b64decode(engine.values["plan"]["model"]))
            graph = model.graph
            inputs = {v.name: v for v in graph.input if v.name not in {t.name for t in graph.initializer}}
            engine.values.update(model=model, inputs=inputs, outputs={v.name: v for v in graph.output})
        return engine

    acts_load = acts["Runtime.deserialize_cuda_engine"]
    tensor = lambda self, name: {**self.values["inputs"], **self.values["outputs"]}[name]  # noqa: E731

    def mode(self: Any, name: str) -> Any:
        return trt.TensorIOMode.INPUT if name in self.values["inputs"] else trt.TensorIOMode.OUTPUT

    def dtype(self: Any, name: str) -> Any:
        names = {1: "FLOAT", 10: "HALF", 7: "INT64", 3: "INT8"}
        return getattr(trt.DataType, names[tensor(self, name).type.tensor_type.elem_type])

    def shape(self: Any, name: str) -> Any:
        dims = tensor(self, name).type.tensor_type.shape.dim
        return made(trt.Dims, sizes=[d.dim_value if d.HasField("dim_value") else -1 for d in dims])

    def context(self: Any, **options: Any) -> Any:
        return made(trt.IExecutionContext, engine_values=self.values, places={}, sizes={}, trt=trt)

    return {
        "Runtime.deserialize_cuda_engine": load,
        "ICudaEngine.num_io_tensors": lambda self: len(self.values["inputs"]) + len(self.values["outputs"]),
        "ICudaEngine.get_tensor_name": lambda self, index: [*self.values["inputs"], *self.values["outputs"]][index],
        "ICudaEngine.get_tensor_mode": mode,
        "ICudaEngine.get_tensor_dtype": dtype,
        "ICudaEngine.get_tensor_shape": shape,
        "ICudaEngine.device_memory_size_v2": lambda self: 4096,
        "ICudaEngine.create_execution_context": context,
    }


def _context(gpu: Gpu) -> Acts:
    def set_shape(self: Any, name: str, shape: tuple[int, ...]) -> bool:
        dims = self.values["engine_values"]["inputs"][name].type.tensor_type.shape.dim
        self.values["sizes"][name] = shape
        return all(not d.HasField("dim_value") or d.dim_value == size for d, size in zip(dims, shape))

    def set_address(self: Any, name: str, memory: int) -> bool:
        self.values["places"][name] = memory
        return memory in gpu.memory

    def results(self: Any) -> dict[str, np.ndarray]:
        values = self.values["engine_values"]
        given = {}
        for name, shape in self.values["sizes"].items():
            kind = onnx.helper.tensor_dtype_to_np_dtype(values["inputs"][name].type.tensor_type.elem_type)
            place = self.values["places"].get(name)
            data = np.zeros(shape, kind) if place is None else np.frombuffer(bytes(gpu.memory[place]), kind)
            given[name] = data.reshape(shape)
        return dict(zip(values["outputs"], ReferenceEvaluator(values["model"]).run(list(values["outputs"]), given)))

    def tensor_shape(self: Any, name: str) -> Any:
        return made(self.values["trt"].Dims, sizes=list(results(self)[name].shape))

    def execute(self: Any, stream_handle: int) -> bool:
        values = self.values["engine_values"]
        if set(self.values["places"]) != {*values["inputs"], *values["outputs"]}:
            return False

        def run() -> None:
            for name, result in results(self).items():
                gpu.memory[self.values["places"][name]][:] = result.tobytes()
            gpu.now_ms += LAYER_MS * len(values["plan"]["nodes"])
            for name, _ in values["plan"]["nodes"]:
                if self.values.get("profiler") is not None:
                    self.values["profiler"].report_layer_time(name, LAYER_MS)

        gpu.done.append("enqueue")
        gpu.put(stream_handle, run)
        return True

    return {
        "IExecutionContext.set_input_shape": set_shape,
        "IExecutionContext.set_tensor_address": set_address,
        "IExecutionContext.get_tensor_shape": tensor_shape,
        "IExecutionContext.execute_async_v3": execute,
    }
