"""Objectives and constraints as values: a name, a direction, a unit; never guessed, never in a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mtnas.base.budget import LIMIT_UNITS, Budget, Floor
from mtnas.base.errors import JobError
from mtnas.base.tables import nearest


@dataclass(frozen=True)
class Objective:
    """One number to improve.

    Args:
        name: a task's name (its primary metric) or a cost's name such as `latency_ms`.
        unit: of the value, for people.
        higher_is_better: the direction.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = False

    def loss(self, value: float) -> float:
        """The value turned so that lower is better."""
        return -value if self.higher_is_better else value

    def value(self, loss: float) -> float:
        """Inverse of `loss`."""
        return -loss if self.higher_is_better else loss

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Objective:
        return Objective(data["name"], data["unit"], data["higher_is_better"])


@dataclass(frozen=True)
class Constraint:
    """A bound that a network must keep: a limit on a cost, or a task's floor.

    Args:
        name: a cost's or an objective's name; with `metric`, a task's name.
        bound: absolute, in the value's own unit.
        higher_is_better: `False`: the value may not exceed the bound; `True`: it may not fall below (a floor).
        metric: read `Outcome.scores[name][metric]` instead of a cost or an objective.
        unit: of the bound, for people.
        text: the bound as the job wrote it, such as `50%`.
    """

    name: str
    bound: float
    higher_is_better: bool = False
    metric: str = ""
    unit: str = ""
    text: str = ""

    @property
    def label(self) -> str:
        return f"{self.name}.{self.metric}" if self.metric else self.name

    def violation(self, value: float) -> float:
        """How far the value is beyond the bound, as a fraction of the bound; zero when it is kept."""
        gap = self.bound - value if self.higher_is_better else value - self.bound
        return max(0.0, gap) / (abs(self.bound) or 1.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        sign = ">=" if self.higher_is_better else "<="
        return f"{self.label} {sign} {self.bound:.6g}{' ' + self.unit if self.unit else ''}"


def limit_constraints(budget: Budget, full_costs: Mapping[str, float]) -> tuple[Constraint, ...]:
    """Absolute constraints of a budget, given the costs of the unpruned network."""
    bounds = budget.resolve(full_costs)
    return tuple(
        Constraint(
            limit.name,
            bounds[limit.name],
            unit=LIMIT_UNITS[limit.name],
            text=f"{limit.amount:g}%" if limit.percent else f"{limit.amount:g}",
        )
        for limit in budget.limits
    )


def floor_constraints(
    floors: Sequence[Floor], objectives: Sequence[Objective], full_scores: Mapping[str, float]
) -> tuple[Constraint, ...]:
    """Absolute constraints of per-task floors.

    Args:
        floors: what the job asks for.
        objectives: hold the direction and unit of every task's primary metric.
        full_scores: task -> primary metric of the unpruned network.
    """
    known = {objective.name: objective for objective in objectives}
    constraints = []
    for floor in floors:
        if floor.task not in known:
            raise JobError(
                "a task of this job", received=repr(floor.task), where="floors", cure=nearest(floor.task, known)
            )
        if floor.percent and floor.task not in full_scores:
            raise JobError("the unpruned network's score for a percent floor", where=f"floors.{floor.task}")
        objective = known[floor.task]
        bound = floor.bound(full_scores.get(floor.task, 0.0), objective.higher_is_better)
        text = f"{floor.amount:g}%" if floor.percent else f"{floor.amount:g}"
        constraints.append(Constraint(floor.task, bound, objective.higher_is_better, unit=objective.unit, text=text))
    return tuple(constraints)
