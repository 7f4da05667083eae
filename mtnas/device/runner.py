"""Times networks on the device it runs on: one JSON job file in, JSON lines out.

Self-contained on purpose: the standard library, numpy and one runtime, no import of this package and no syntax newer
than Python 3.9, so that the single file can be copied to any board. The host imports its timing loop too, hence a
number taken in a fresh process and one taken in the host's process come from the same code.

    python runner.py job.json

Job: {"schema": "device-job/1", "kind": "latency" | "memory", "runtime", "threads", "spinning", "seed",
      "models": {name: path}, and for latency "rounds", "round_ms", "least_runs", "most_runs", "warmup_s"}
Out: {"event": "environment", ...}, then {"event": "latency", "name", "rounds_ms": [[run, ...], ...],
     "interrupted": [[place, ...], ...]} or {"event": "memory", "name", "base_mb", "peak_mb"};
     {"event": "error", "text"} and exit status 1 on failure.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

try:
    import resource
except ImportError:  # a system without it
    resource = None  # type: ignore[assignment]

SCHEMA = "device-job/1"

Spec = tuple[str, str, tuple[Any, ...]]
Call = Callable[[], Any]
Arrays = dict[str, np.ndarray]


# --- networks: one small class per runtime -----------------------------------------------------------------------


class OnnxruntimeNetwork:
    """A network in onnxruntime's CPU provider; inputs and outputs are bound once, so that a run copies nothing."""

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
        self.inputs = [(i.name, _ort_dtype(i.type), _shape(i.shape)) for i in self._session.get_inputs()]
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


class OpenvinoNetwork:
    """A network in OpenVINO's CPU plugin, precision pinned: left alone it runs float32 files in bfloat16."""

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
            (port.get_any_name(), np.dtype(port.get_element_type().to_dtype()).name, _ov_shape(port))
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


NETWORKS = {"onnxruntime": OnnxruntimeNetwork, "openvino": OpenvinoNetwork}


def _ort_dtype(text: str) -> str:
    name = text[len("tensor(") : -1]
    return {"float": "float32", "double": "float64"}.get(name, name)


def _shape(dims: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(d if isinstance(d, int) else None for d in dims)


def _ov_shape(port: Any) -> tuple[Any, ...]:
    return tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())


def random_inputs(specs: Sequence[Spec], seed: int = 0) -> Arrays:
    """Standard normal images (zeros for integer inputs), reproducible; free dimensions become 1."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, dtype, shape in specs:
        fixed = [1 if d is None else d for d in shape]
        floating = np.issubdtype(np.dtype(dtype), np.floating)
        inputs[name] = rng.standard_normal(fixed).astype(dtype) if floating else np.zeros(fixed, dtype)
    return inputs


# --- timing ------------------------------------------------------------------------------------------------------


def interruptions() -> int:
    """How often the system took the processor away from this process; 0 where it does not tell."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource is not None else 0


def time_runs(call: Call, count: int) -> tuple[list[float], list[int]]:
    """Milliseconds of each of `count` runs, and the places of those that were interrupted."""
    clock, times, places = time.perf_counter_ns, [], []
    seen = interruptions()
    for place in range(count):
        start = clock()
        call()
        times.append((clock() - start) / 1e6)
        now = interruptions()
        if now != seen:
            places.append(place)
        seen = now
    return times, places


def warm_up(call: Call, least_s: float = 0.05, most_s: float = 1.0, tolerance: float = 0.02) -> tuple[float, bool]:
    """Run until time has passed and the last three blocks agree; returns (milliseconds of one run, settled)."""
    start, blocks, count = time.perf_counter(), [], 1
    while True:
        times, _ = time_runs(call, count)
        blocks.append(statistics.median(times))
        if sum(times) < 5.0:
            count = min(count * 2, 1024)
        passed = time.perf_counter() - start
        last = blocks[-3:]
        settled = len(last) == 3 and max(last) - min(last) <= tolerance * min(last)
        if passed >= least_s and (settled or passed >= most_s):
            return last[-1], settled


def runs_for(run_ms: float, round_ms: float, least: int, most: int) -> int:
    """How many runs fill a round."""
    return int(min(most, max(least, np.ceil(round_ms / max(run_ms, 1e-6)))))


def one_round(
    calls: dict[str, Call], counts: dict[str, int], rng: random.Random
) -> dict[str, tuple[list[float], list[int]]]:
    """Every network once, in shuffled order: what `time_runs` says of each. One untimed run refills caches."""
    names = sorted(calls)
    rng.shuffle(names)
    collecting = gc.isenabled()
    gc.disable()
    try:
        times = {}
        for name in names:
            calls[name]()
            times[name] = time_runs(calls[name], counts[name])
        return times
    finally:
        if collecting:
            gc.enable()


# --- jobs --------------------------------------------------------------------------------------------------------


def latency(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Interleaved rounds over the job's models."""
    opened = {name: _open(job, path) for name, path in job["models"].items()}
    calls = {n: network.bind(random_inputs(network.inputs, job["seed"])) for n, network in opened.items()}
    counts = {}
    for name, call in calls.items():
        run_ms, _ = warm_up(call, job["warmup_s"], max(1.0, job["warmup_s"]))
        counts[name] = runs_for(run_ms, job["round_ms"], job["least_runs"], job["most_runs"])
    rng = random.Random(job["seed"])
    rounds: dict[str, list[list[float]]] = {name: [] for name in calls}
    interrupted: dict[str, list[list[int]]] = {name: [] for name in calls}
    for _ in range(job["rounds"]):
        for name, (times, places) in one_round(calls, counts, rng).items():
            rounds[name].append([round(t, 6) for t in times])
            interrupted[name].append(places)
    for name in calls:
        found = {"rounds_ms": rounds[name], "interrupted": interrupted[name], "options": opened[name].options}
        emit(dict(found, event="latency", name=name))


def memory(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Peak resident memory that one network adds to a process where the runtime already works.

    The first model of the job is the base: a network of no size, opened and run before the count starts.
    """
    (_, base), (name, path) = list(job["models"].items())
    small = _open(job, base)
    small.run(random_inputs(small.inputs))
    gc.collect()
    _forget_peak()
    base_mb = _status_mb("VmRSS")
    network = _open(job, path)
    call = network.bind(random_inputs(network.inputs, job["seed"]))
    for _ in range(5):
        call()
    emit({"event": "memory", "name": name, "base_mb": base_mb, "peak_mb": _status_mb("VmHWM")})


def environment(runtime: str, version: str = "") -> dict[str, Any]:
    """What decides a number: runtime, versions, CPU, cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "runtime": runtime,
        "runtime_version": version,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cores": cores,
    }


def _open(job: dict[str, Any], path: str) -> Any:
    return NETWORKS[job["runtime"]](path, job["threads"], job["spinning"])


def _status_mb(field: str) -> float:
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
        for line in stream:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this system does not show " + field)


def _forget_peak() -> None:
    """Reset the peak; without the right to do so the peak of the imports stays in, which only overstates."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
            stream.write("5")
    except OSError:
        return


def _emit(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Run one job file; 0, or 1 with an error record."""
    try:
        with open(arguments[0], encoding="utf-8") as stream:
            job = json.load(stream)
        if job.get("schema") != SCHEMA:
            raise ValueError("expected schema " + SCHEMA + ", received " + repr(job.get("schema")))
        version = __import__(job["runtime"]).__version__
        _emit(dict(environment(job["runtime"], version), event="environment"))
        {"latency": latency, "memory": memory}[job["kind"]](job, _emit)
    except Exception as error:  # noqa: BLE001 - the border of a process: every failure becomes a record
        _emit({"event": "error", "text": type(error).__name__ + ": " + str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
