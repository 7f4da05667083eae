"""What is known about the parts of one network: a frozen value, read from and written to JSON.

Nothing is adjusted so that numbers add up: the distance between the sum and what was measured is stated beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.quantity import Counted, Measured, Predicted
from mtnas.base.tables import nearest
from mtnas.measure.additive import Tasks
from mtnas.measure.record import Environment, read_measured

SCHEMA = "parts/1"
CALL = "call"


@dataclass(frozen=True)
class Part:
    """One part of a network.

    Args:
        name: `shared`, a task, the tasks of glue (`depth + normals`), or `call`: what a call costs by itself.
        kind: `shared`, `decoder`, `glue` or `call`.
        tasks: whom it serves; nobody in particular for `call`.
        latency_ms: its share of the measured networks, by least squares (`statistic` is `share`).
        macs, weight_bytes, moved_bytes: counted, see `graph.part_counts`.
        memory_mb: its share of peak memory, likewise; None where memory was not measured.
    """

    name: str
    kind: str
    tasks: Tasks
    latency_ms: Measured
    macs: Counted
    weight_bytes: Counted
    moved_bytes: Counted
    memory_mb: Measured | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Part:
        counts = {key: _counted(data[key]) for key in ("macs", "weight_bytes", "moved_bytes")}
        memory = read_measured(data["memory_mb"]) if data.get("memory_mb") else None
        latency = read_measured(data["latency_ms"])
        return Part(data["name"], data["kind"], tuple(data["tasks"]), latency, **counts, memory_mb=memory)


@dataclass(frozen=True)
class SubsetCost:
    """The network of some tasks: its latency, and how far the sum of its parts is from it, in percent.

    `latency_ms` is `Measured`, or `Predicted` from the parts where there were too many subsets to measure; then
    there is no error to state.
    """

    tasks: Tasks
    latency_ms: Measured | Predicted
    sum_ms: float
    error_percent: float | None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "tasks": list(self.tasks)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SubsetCost:
        raw = data["latency_ms"]
        latency = read_measured(raw) if raw["kind"] == "measured" else _predicted(raw)
        return SubsetCost(tuple(data["tasks"]), latency, data["sum_ms"], data["error_percent"])


@dataclass(frozen=True)
class PartCosts:
    """The costs of one network's parts.

    Args:
        tasks: in the network's order.
        parts: shared first, then glue, decoders, call.
        subsets: the whole first.
        error_percent: the largest distance between a measured subset and the sum of its parts; None when nothing was
            measured beyond what determines the parts (two tasks), so that the sums are exact by construction.
        shared_alone_ms: the shared part measured as a network of its own, a second opinion: it writes tensors out
            that the whole network keeps inside.
        memory_mb: peak memory of the whole, and `memory_sum_mb` the sum of the parts' shares.
        memory_error_percent: the largest distance of a measured network from the sum of its parts' memory.
        environment: the circumstances.
    """

    tasks: Tasks
    parts: tuple[Part, ...]
    subsets: tuple[SubsetCost, ...]
    error_percent: float | None
    shared_alone_ms: Measured | None
    memory_mb: Measured | None
    memory_error_percent: float | None
    environment: Environment

    @property
    def whole(self) -> SubsetCost:
        return self.subsets[0]

    @property
    def memory_sum_mb(self) -> float | None:
        shares = [part.memory_mb.value for part in self.parts if part.memory_mb]
        return sum(shares) if shares else None

    def part(self, name: str) -> Part:
        """By name; raises `JobError` with the nearest name."""
        found = {part.name: part for part in self.parts}
        if name not in found:
            raise JobError("a part of the network", received=repr(name), where="parts", cure=nearest(name, found))
        return found[name]

    def latency(self, tasks: Tasks | list[str]) -> Measured | Predicted:
        """Latency of a network that answers these tasks: measured where it was, else the sum of the parts."""
        for task in tasks:
            if task not in self.tasks:
                raise JobError(
                    "a task of the model", received=repr(task), where="tasks", cure=nearest(task, self.tasks)
                )
        wanted = tuple(task for task in self.tasks if task in set(tasks))
        known = next((subset for subset in self.subsets if subset.tasks == wanted), None)
        return known.latency_ms if known else predicted_sum(self.parts, wanted, self.error_percent)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "tasks": list(self.tasks),
            "parts": [part.to_json() for part in self.parts],
            "subsets": [subset.to_json() for subset in self.subsets],
            "error_percent": self.error_percent,
            "shared_alone_ms": self.shared_alone_ms.to_json() if self.shared_alone_ms else None,
            "memory_mb": self.memory_mb.to_json() if self.memory_mb else None,
            "memory_sum_mb": self.memory_sum_mb,
            "memory_error_percent": self.memory_error_percent,
            "environment": self.environment.to_json(),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> PartCosts:
        if data.get("schema") != SCHEMA:
            raise CheckpointError(f"schema {SCHEMA!r}", received=repr(data.get("schema")), where="costs of parts")
        alone, memory = data["shared_alone_ms"], data["memory_mb"]
        return PartCosts(
            tasks=tuple(data["tasks"]),
            parts=tuple(Part.from_json(part) for part in data["parts"]),
            subsets=tuple(SubsetCost.from_json(subset) for subset in data["subsets"]),
            error_percent=data["error_percent"],
            shared_alone_ms=read_measured(alone) if alone else None,
            memory_mb=read_measured(memory) if memory else None,
            memory_error_percent=data["memory_error_percent"],
            environment=Environment.from_json(data["environment"]),
        )


def predicted_sum(parts: tuple[Part, ...], tasks: Tasks, error_percent: float | None) -> Predicted:
    """Sum of the parts that these tasks need; the interval is as wide as the stated error."""
    value = sum_ms(parts, tasks)
    spread = (error_percent or 0.0) / 100.0 * value
    return Predicted(value, max(0.0, value - spread), value + spread, "ms")


def sum_ms(parts: tuple[Part, ...], tasks: Tasks) -> float:
    """The call and every part that serves one of the tasks."""
    return sum(part.latency_ms.value for part in parts if part.kind == CALL or set(part.tasks) & set(tasks))


def _counted(data: Mapping[str, Any]) -> Counted:
    return Counted(data["value"], data["unit"])


def _predicted(data: Mapping[str, Any]) -> Predicted:
    return Predicted(**{key: value for key, value in data.items() if key != "kind"})
