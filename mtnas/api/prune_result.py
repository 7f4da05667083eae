"""What `mtnas.prune` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from mtnas.base.errors import BudgetMissed
from mtnas.measure.gate import Verdict
from mtnas.prune.steps import PruneStep
from mtnas.search.objectives import Constraint
from mtnas.search.trial import Cost


@dataclass(frozen=True)
class PruneResult:
    """What pruning did.

    Args:
        kept: `pruned`, or `original` when nothing was won.
        widths: group -> (units before, units after).
        steps: everything that was tried.
        stopped_because: in words.
        before, after: costs of the original and of the delivered network, measured side by side.
        scores_before, scores_after: by task; empty when nothing was scored.
        limits: absolute limits, and whether they are kept.
        gate: the delivered network against the original; None when nothing was removed.
        notes: what else should be known.
    """

    kept: str
    widths: Mapping[str, tuple[int, int]]
    steps: tuple[PruneStep, ...]
    stopped_because: str
    before: Mapping[str, Cost]
    after: Mapping[str, Cost]
    scores_before: Mapping[str, float]
    scores_after: Mapping[str, float]
    limits: tuple[Constraint, ...]
    gate: Verdict | None
    notes: tuple[str, ...] = ()

    @property
    def missed(self) -> tuple[str, ...]:
        """The limits that the delivered network does not keep."""
        return tuple(
            f"{limit}, found {self.after[limit.name].value:.4g}"
            for limit in self.limits
            if limit.violation(self.after[limit.name].value) > 0
        )

    @property
    def met(self) -> bool:
        """Whether every limit is kept, as measured."""
        return not self.missed

    def require(self) -> None:
        """Raise `BudgetMissed` unless every limit is kept."""
        if not self.met:
            raise BudgetMissed(
                "a pruned network within the budget",
                received="; ".join(self.missed),
                where="prune",
                cure=f"{self.stopped_because}: relax the budget or the floors, or start from a smaller network",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "prune-result/1",
            "kept": self.kept,
            "met": self.met,
            "widths": {name: list(pair) for name, pair in self.widths.items()},
            "steps": [step.to_json() for step in self.steps],
            "stopped_because": self.stopped_because,
            "before": {"scores": dict(self.scores_before), "costs": _json(self.before)},
            "after": {"scores": dict(self.scores_after), "costs": _json(self.after)},
            "limits": [limit.to_json() for limit in self.limits],
            "gate": self.gate.to_json() if self.gate else None,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        rows = [(name, cost.value, self.after[name].value) for name, cost in self.before.items()]
        rows += [(name, value, self.scores_after[name]) for name, value in self.scores_before.items()]
        told = [f"  {name}: {old:.5g} -> {new:.5g}" for name, old, new in rows]
        accepted = sum(step.accepted for step in self.steps)
        head = f"{self.kept} network: {len(self.steps)} steps tried, {accepted} kept; {self.stopped_because}"
        return "\n".join([head, *told, *(f"  missed: {text}" for text in self.missed), *self.notes])


class Pruned(NamedTuple):
    """`pruned, result = mtnas.prune(...)`."""

    model: nn.Module
    result: PruneResult


def _json(costs: Mapping[str, Cost]) -> dict[str, Any]:
    return {name: cost.to_json() for name, cost in costs.items()}
