"""Can the limits be kept at all? Answered from two or three networks within seconds, and again after the search.

The message of `Infeasible` always names the limit that binds, the nearest network that exists, and the cheapest
relaxation: the new bound that would let that network through, rounded outwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mtnas.base.budget import LIMIT_UNITS
from mtnas.base.errors import FloorMissed, Infeasible, JobError
from mtnas.base.quantity import Counted
from mtnas.search.objectives import Constraint
from mtnas.search.trial import Cost, Outcome, Trial


def _outwards(value: float, up: bool) -> float:
    """Three significant digits, rounded so that `value` still keeps the bound."""
    if not value or not math.isfinite(value):
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    rounded = float(f"{(math.ceil if up else math.floor)(round(value / step, 6)) * step:.6g}")
    return rounded if (rounded >= value) == up or rounded == value else value


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


# --- before the search ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LimitRow:
    """One limit against the extremes of the space.

    Args:
        name: the cost.
        bound: the absolute limit.
        smallest, typical, largest: that cost of three networks; `typical` may be unknown.
        verdict: `free` (the largest network keeps it), `binds` (some networks do not), `tight` (the smallest misses it
            by less than its interval), `impossible`.
    """

    name: str
    bound: float
    smallest: Cost
    largest: Cost
    typical: Cost | None
    verdict: str

    @property
    def relaxed(self) -> float:
        """The cheapest bound that the smallest network keeps, interval included."""
        return max(self.bound, _outwards(_high(self.smallest), up=True))

    @property
    def change(self) -> str:
        return f"{self.name}: {_number(self.bound)} -> {_number(self.relaxed)} {LIMIT_UNITS.get(self.name, '')}".strip()

    def __str__(self) -> str:
        found = [("smallest", self.smallest), ("typical", self.typical), ("largest", self.largest)]
        costs = ", ".join(f"{name} {_number(cost.value)} ({cost.kind})" for name, cost in found if cost)
        return f"{self.name} <= {_number(self.bound)}: {self.verdict}; {costs}"


@dataclass(frozen=True)
class FloorRow:
    """One floor against the unpruned network's score."""

    name: str
    bound: float
    full: float
    verdict: str

    def __str__(self) -> str:
        return f"{self.name}: floor {_number(self.bound)}, unpruned network {_number(self.full)}: {self.verdict}"


@dataclass(frozen=True)
class FeasibilityReport:
    """Every limit and floor with its verdict."""

    limits: tuple[LimitRow, ...]
    floors: tuple[FloorRow, ...] = ()

    @property
    def binding(self) -> LimitRow | None:
        """The limit that leaves the least room: the smallest network uses the largest share of it."""
        return max(self.limits, key=lambda row: row.smallest.value / row.bound, default=None)

    @property
    def feasible(self) -> bool:
        verdicts = [row.verdict for row in self.limits] + [row.verdict for row in self.floors]
        return "impossible" not in verdicts

    def require(self) -> None:
        """Raise `Infeasible` or `FloorMissed` (exit code 3) when a limit or floor cannot be kept."""
        missed = [row for row in self.limits if row.verdict == "impossible"]
        if missed:
            worst = max(missed, key=lambda row: row.smallest.value / row.bound)
            raise Infeasible(
                f"a network within {worst.name} <= {_number(worst.bound)} {LIMIT_UNITS.get(worst.name, '')}".strip(),
                received="; ".join(str(row) for row in missed),
                where="budget",
                cure=f"relax {'; '.join(row.change for row in missed)}; or use a space with smaller networks",
            )
        low = [row for row in self.floors if row.verdict == "impossible"]
        if low:
            changes = "; ".join(f"{row.name}: {_number(row.bound)} -> {_number(row.full)}" for row in low)
            raise FloorMissed(
                "floors that the unpruned network reaches",
                received="; ".join(str(row) for row in low),
                where="floors",
                cure=f"lower them ({changes}), or train longer",
            )

    def to_json(self) -> dict[str, Any]:
        limits = [{**asdict(row), "relaxed": row.relaxed} for row in self.limits]
        return {"schema": "feasible/1", "limits": limits, "floors": [asdict(row) for row in self.floors]}

    def __str__(self) -> str:
        return "\n".join(str(row) for row in (*self.limits, *self.floors)) or "no limits and no floors"


def check_feasible(
    limits: Mapping[str, float],
    smallest: Mapping[str, Cost],
    largest: Mapping[str, Cost],
    *,
    typical: Mapping[str, Cost] | None = None,
    floors: Sequence[Constraint] = (),
    scores: Mapping[str, float] | None = None,
) -> FeasibilityReport:
    """`feasibility`, but raises `Infeasible` or `FloorMissed` when something cannot be kept."""
    report = feasibility(limits, smallest, largest, typical=typical, floors=floors, scores=scores)
    report.require()
    return report


def feasibility(
    limits: Mapping[str, float],
    smallest: Mapping[str, Cost],
    largest: Mapping[str, Cost],
    *,
    typical: Mapping[str, Cost] | None = None,
    floors: Sequence[Constraint] = (),
    scores: Mapping[str, float] | None = None,
) -> FeasibilityReport:
    """Compare absolute limits with the extremes of the space, and floors with the unpruned network; needs no training.

    Args:
        limits: cost -> absolute bound.
        smallest: costs of the smallest network, measured or counted.
        largest: costs of the unpruned network.
        typical: costs of a network in between, for the message.
        floors: absolute floors, as `floor_constraints` gives them; judged only where `scores` has the task.
        scores: task -> primary metric of the unpruned network, when it is trained.
    """
    rows = []
    for name, bound in limits.items():
        if name not in smallest or name not in largest:
            raise JobError(
                f"{name} of the smallest and the largest network",
                received="not known on this device",
                where=f"budget.{name}",
                cure="remove this limit, or profile a device that gives this cost",
            )
        verdict = _verdict(bound, smallest[name], largest[name])
        rows.append(LimitRow(name, bound, smallest[name], largest[name], (typical or {}).get(name), verdict))
    known = [floor for floor in floors if scores and floor.name in scores]
    judged = [
        FloorRow(f.label, f.bound, s, "impossible" if f.violation(s) else "ok") for f, s in _scored(known, scores)
    ]
    return FeasibilityReport(tuple(rows), tuple(judged))


def _scored(floors: Sequence[Constraint], scores: Mapping[str, float] | None) -> list[tuple[Constraint, float]]:
    return [(floor, (scores or {})[floor.name]) for floor in floors]


def _verdict(bound: float, smallest: Cost, largest: Cost) -> str:
    if _low(smallest) > bound:
        return "impossible"
    if smallest.value > bound:
        return "tight"
    return "free" if _high(largest) <= bound else "binds"


def _low(cost: Cost) -> float:
    return cost.value if isinstance(cost, Counted) else cost.low


def _high(cost: Cost) -> float:
    return cost.value if isinstance(cost, Counted) else cost.high


# --- after the search -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Relaxation:
    """New bounds that let one existing network through.

    Args:
        changes: (constraint, what the network has).
        trial: that network.
        amount: sum of the violations, as fractions of the bounds.
    """

    changes: tuple[tuple[Constraint, float], ...]
    trial: Trial
    amount: float

    def __str__(self) -> str:
        parts = []
        for constraint, value in self.changes:
            relaxed = _outwards(value, up=not constraint.higher_is_better)
            parts.append(
                f"{constraint.label}: {_number(constraint.bound)} -> {_number(relaxed)} {constraint.unit}".strip()
            )
        return " and ".join(parts)


def violated(constraints: Sequence[Constraint], outcome: Outcome) -> list[tuple[Constraint, float]]:
    """Constraints that an outcome breaks, with its value; one that it knows nothing about raises `JobError`."""
    found = []
    for constraint in constraints:
        value = outcome.value(constraint.name, constraint.metric)
        if value is None:
            raise JobError(
                f"a cost or score named {constraint.label}",
                received="none was recorded",
                where="budget",
                cure="remove this limit, or search again with it",
            )
        if constraint.violation(value) > 0:
            found.append((constraint, value))
    return found


def relaxations(constraints: Sequence[Constraint], trials: Sequence[Trial]) -> list[Relaxation]:
    """For each set of constraints that some trial breaks, the cheapest way through; cheapest first."""
    best: dict[tuple[str, ...], Relaxation] = {}
    for trial in trials:
        broken = violated(constraints, trial.outcome)
        key = tuple(constraint.label for constraint, _ in broken)
        amount = sum(constraint.violation(value) for constraint, value in broken)
        if broken and (key not in best or amount < best[key].amount):
            best[key] = Relaxation(tuple(broken), trial, amount)
    return sorted(best.values(), key=lambda relaxation: relaxation.amount)


def no_network(constraints: Sequence[Constraint], trials: Sequence[Trial], where: str) -> Infeasible:
    """The error for constraints that none of the trials keeps; the caller raises it."""
    ways = relaxations(constraints, trials)
    if not ways:
        return Infeasible(
            "at least one network", received="none", where=where, cure="search first, or relax the limits"
        )
    nearest = ways[0]
    has = ", ".join(f"{constraint.label} {_number(value)}" for constraint, value in nearest.changes)
    return Infeasible(
        f"a network that keeps {', '.join(str(constraint) for constraint in constraints)}",
        received=f"none of {len(trials)}; the nearest, {nearest.trial.arch.id}, has {has}",
        where=where,
        cure=f"relax {'; or '.join(str(way) for way in ways[:3])}",
    )
