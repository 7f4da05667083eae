"""`Outcome` is what evaluating one arch gave; `Trial` is that outcome with its place in the search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtnas.base.errors import CheckpointError, ModelError
from mtnas.base.quantity import Counted, Measured, Predicted
from mtnas.space.arch import Arch

Cost = Measured | Predicted | Counted

_COSTS: dict[str, type[Measured] | type[Predicted] | type[Counted]] = {
    "measured": Measured,
    "predicted": Predicted,
    "counted": Counted,
}


def cost_from_json(data: Mapping[str, Any]) -> Cost:
    """A quantity of the kind that is written in the record."""
    if data.get("kind") not in _COSTS:
        raise CheckpointError(f"a kind out of {sorted(_COSTS)}", received=repr(data.get("kind")), where="cost")
    return _COSTS[data["kind"]](**{key: value for key, value in data.items() if key != "kind"})


@dataclass(frozen=True)
class Outcome:
    """What is known of one arch.

    Args:
        objectives: value of every objective, in its own unit and direction.
        costs: costs by limit name, each saying whether it was measured, predicted or counted.
        scores: task -> metric -> value; a metric that is not defined may be NaN.
    """

    objectives: Mapping[str, float]
    costs: Mapping[str, Cost] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def value(self, name: str, metric: str = "") -> float | None:
        """A metric, a cost or an objective by name; `None` when this outcome does not have it."""
        if metric:
            return self.scores.get(name, {}).get(metric)
        if name in self.costs:
            return self.costs[name].value
        return self.objectives.get(name)

    def check(self, where: str) -> None:
        """Raise `ModelError` unless objectives and costs are finite numbers."""
        named = {**self.objectives, **{name: cost.value for name, cost in self.costs.items()}}
        for name, value in named.items():
            if not math.isfinite(value):
                raise ModelError(
                    "finite objectives and costs",
                    received=f"{name} = {value}",
                    where=where,
                    cure="the network's output or its score is NaN or infinite for this arch",
                )

    def to_json(self) -> dict[str, Any]:
        return {
            "objectives": {name: float(value) for name, value in self.objectives.items()},
            "costs": {name: cost.to_json() for name, cost in self.costs.items()},
            "scores": {
                task: {metric: float(v) if math.isfinite(v) else None for metric, v in metrics.items()}
                for task, metrics in self.scores.items()
            },
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Outcome:
        return Outcome(
            objectives=dict(data["objectives"]),
            costs={name: cost_from_json(cost) for name, cost in data["costs"].items()},
            scores={
                task: {metric: math.nan if v is None else v for metric, v in metrics.items()}
                for task, metrics in data["scores"].items()
            },
        )


@dataclass(frozen=True)
class Trial:
    """One evaluated arch.

    Args:
        number: place in the sequence, from 0.
        arch: what was evaluated.
        outcome: what came out.
        violations: constraint -> how far beyond its bound, as a fraction of the bound; zero when kept.
        seconds: how long the evaluation took.
        strategy: which strategy was running.
        origin: `start` (largest, smallest), `ask` (proposed), `fill` (a neighbour, when nothing new was proposed).
    """

    number: int
    arch: Arch
    outcome: Outcome
    violations: Mapping[str, float]
    seconds: float = 0.0
    strategy: str = ""
    origin: str = "ask"

    @property
    def feasible(self) -> bool:
        return all(violation <= 0 for violation in self.violations.values())

    @property
    def total_violation(self) -> float:
        return sum(self.violations.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "id": self.arch.id,
            "arch": self.arch.to_json(),
            **self.outcome.to_json(),
            "violations": dict(self.violations),
            "feasible": self.feasible,
            "seconds": self.seconds,
            "strategy": self.strategy,
            "origin": self.origin,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Trial:
        return Trial(
            number=data["number"],
            arch=Arch.from_json(data["arch"]),
            outcome=Outcome.from_json(data),
            violations=dict(data["violations"]),
            seconds=data["seconds"],
            strategy=data["strategy"],
            origin=data["origin"],
        )
