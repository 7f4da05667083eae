"""The jobs that a runner knows: each takes the job's settings and a function that emits one record."""

from __future__ import annotations

import gc
import os
import platform
import random
from typing import Any, Callable, Dict

import numpy as np

from .inputs import random_inputs
from .networks import network_class
from .timing import one_round, runs_for, warm_up

Emit = Callable[[Dict[str, Any]], None]


def latency(job: dict[str, Any], emit: Emit) -> None:
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


def memory(job: dict[str, Any], emit: Emit) -> None:
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


JOBS = {"latency": latency, "memory": memory}


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
    return network_class(job["runtime"])(path, job["threads"], job["spinning"])


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
