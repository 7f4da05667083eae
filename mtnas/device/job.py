"""The jobs that a runner knows: each takes the job's settings, where its models are, and a function that emits records.

A job that measures several networks side by side emits them all at once or each as it settles; what was emitted is
never measured again.
"""

from __future__ import annotations

import gc
import random
import tempfile
from typing import Any, Callable, Dict, Sequence

from .energy import measure_energy
from .inputs import random_inputs
from .machine import pinned
from .networks import network_class
from .rounds import Lane, Rules, open_lane, settle_each, settle_together
from .store import Store

Emit = Callable[[Sequence[Dict[str, Any]]], None]


def latency(job: dict[str, Any], store: Store, emit: Emit) -> None:
    """Interleaved rounds: with an anchor each network leaves as it settles, without one all stay to the end."""
    rules, rng = Rules.of(job), random.Random(job.get("order", job["seed"]))
    with pinned(job.get("affinity", ())) as cores:
        if job.get("anchor"):
            _each(job, store, rules, rng, cores, emit)
        else:
            lanes, options = _lanes(job, store, job["models"])
            settle_together(lanes, job.get("judged", list(job["models"])), rules, rng)
            emit([_found(lane, options[lane.name], cores, ()) for lane in lanes])


def opened(job: dict[str, Any], store: Store, emit: Emit) -> None:
    """How the runtime reports a network that it has opened."""
    for name, entry in job["models"].items():
        network = _open(job, store.model(entry))
        emit([{"event": "opened", "name": name, "version": network.version, "options": network.options}])


def memory(job: dict[str, Any], store: Store, emit: Emit) -> None:
    """Peak resident memory that one network adds to a process where the runtime already works.

    The first model of the job is the base: a network of no size, opened and run before the count starts. A runtime
    with device memory of its own counts that instead.
    """
    with tempfile.TemporaryDirectory(prefix="mtnas-") as folder:
        (_, base), (name, path) = [(name, store.file(entry, folder)) for name, entry in job["models"].items()]
        small = _open(job, base)
        small.run(random_inputs(small.inputs))
        gc.collect()
        _forget_peak()
        base_mb = _status_mb("VmRSS")
        network = _open(job, path)
        call = network.bind(random_inputs(network.inputs, job["seed"]))
        for _ in range(5):
            call()
        peak_mb = _status_mb("VmHWM")
        if hasattr(network, "peak_mb"):  # memory of its own, which the runtime counts
            base_mb, peak_mb = 0.0, network.peak_mb()
        emit([{"event": "memory", "name": name, "base_mb": base_mb, "peak_mb": peak_mb}])


def layers(job: dict[str, Any], store: Store, emit: Emit) -> None:
    """Time of every layer as the runtime executes it; in a process of its own, since timing layers slows them."""
    for name, entry in job["models"].items():
        network = _open(job, store.model(entry))
        if not callable(getattr(network, "layers", None)):
            raise ValueError(job["runtime"] + " does not tell the times of layers")
        found = network.layers(random_inputs(network.inputs, job["seed"]), job["runs"])
        emit([{"event": "layers", "name": name, "layers": found, "options": network.options}])


def energy(job: dict[str, Any], store: Store, emit: Emit) -> None:
    """Energy of one run of each network, in loops of seconds; or one record that says that nothing counts it here."""
    with pinned(job.get("affinity", ())):
        measure_energy(job, lambda record: emit([record]), lambda entry: _warm_call(job, store.model(entry)))


JOBS = {"energy": energy, "latency": latency, "layers": layers, "memory": memory, "opened": opened}


def _each(job: dict[str, Any], store: Store, rules: Rules, rng: random.Random, cores: list[int], emit: Emit) -> None:
    """Groups of `together` networks share rounds with the anchor, which stays open."""
    names = [name for name in job["models"] if name != job["anchor"]]
    (anchor,), _ = _lanes(job, store, [job["anchor"]])
    for start in range(0, len(names), job["together"]):
        lanes, options = _lanes(job, store, names[start : start + job["together"]])
        for lane in settle_each(anchor, lanes, rules, rng):
            emit([_found(lane, options[lane.name], cores, anchor.medians_ms[-len(lane.runs_ms) :])])


def _lanes(job: dict[str, Any], store: Store, names: Sequence[str]) -> tuple[list[Lane], dict[str, Any]]:
    """The networks, open and warm, and how the runtime runs each."""
    lanes, options = [], {}
    for name in names:
        network = _open(job, store.model(job["models"][name]))
        lanes.append(open_lane(name, network.bind(random_inputs(network.inputs, job["seed"])), job))
        options[name] = network.options
    return lanes, options


def _found(lane: Lane, options: dict[str, Any], cores: list[int], anchor_ms: Sequence[float]) -> dict[str, Any]:
    return {
        "event": "latency",
        "name": lane.name,
        "rounds_ms": [[round(time, 6) for time in runs] for runs in lane.runs_ms],
        "interrupted": lane.interrupted,
        "anchor_ms": [round(time, 6) for time in anchor_ms],
        "note": lane.note,
        "options": dict(options, affinity=cores) if cores else options,
        "state": lane.state,
    }


def _warm_call(job: dict[str, Any], model: bytes | str) -> Callable[[], Any]:
    network = _open(job, model)
    call = network.bind(random_inputs(network.inputs, job["seed"]))
    open_lane("", call, job)
    return call


def _open(job: dict[str, Any], model: bytes | str) -> Any:
    return network_class(job["runtime"])(model, job["threads"], job["spinning"])


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
