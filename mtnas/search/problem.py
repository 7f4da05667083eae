"""What is searched: a space, the objectives in order, the constraints.

Shape letters: N = trials, M = objectives, K = constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mtnas.base.errors import JobError, ModelError
from mtnas.base.files import content_hash
from mtnas.search.objectives import Constraint, Objective
from mtnas.search.trial import Cost, Outcome, Trial
from mtnas.space.arch import Arch
from mtnas.space.space import Space

Evaluate = Callable[[Arch], Outcome]


@dataclass(frozen=True)
class Problem:
    """A space with at least one objective; constraint bounds are absolute."""

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        for what, names in (
            ("objectives", [objective.name for objective in self.objectives]),
            ("constraints", [constraint.label for constraint in self.constraints]),
        ):
            if len(set(names)) != len(names):
                raise JobError(f"{what} with different names", received=str(names), where="search")
        if not self.objectives:
            raise JobError("at least one objective", received="none", where="search")

    @cached_property
    def id(self) -> str:
        """Twelve hex digits of space, objectives and constraints."""
        return content_hash(self.to_json())[:12]

    def violations(self, outcome: Outcome) -> dict[str, float]:
        """Constraint label -> normalised violation, zero when kept."""
        found = {}
        for constraint in self.constraints:
            value = outcome.value(constraint.name, constraint.metric)
            if value is None:
                raise ModelError(
                    "a value for every constraint", received=f"none for {constraint.label}", where="search"
                )
            found[constraint.label] = constraint.violation(value)
        return found

    def trial(self, number: int, arch: Arch, outcome: Outcome, seconds: float = 0.0) -> Trial:
        """Judge an outcome; raises `ModelError` when an objective is missing or not finite."""
        missing = [objective.name for objective in self.objectives if objective.name not in outcome.objectives]
        if missing:
            raise ModelError("a value for every objective", received=f"none for {missing}", where=f"arch {arch.id}")
        outcome.check(f"arch {arch.id}")
        return Trial(number, arch, outcome, self.violations(outcome), seconds)

    def with_costs(self, trial: Trial, costs: Mapping[str, Cost]) -> Trial:
        """The same trial judged by other costs, such as measured ones in place of predicted ones."""
        objectives = {
            name: costs[name].value if name in costs else value for name, value in trial.outcome.objectives.items()
        }
        outcome = Outcome(objectives, {**trial.outcome.costs, **costs}, trial.outcome.scores)
        outcome.check(f"arch {trial.arch.id}")
        return replace(trial, outcome=outcome, violations=self.violations(outcome))

    def losses_NM(self, trials: Sequence[Trial]) -> np.ndarray:
        """Objectives turned so that lower is better, in the problem's order."""
        rows = [[o.loss(trial.outcome.objectives[o.name]) for o in self.objectives] for trial in trials]
        return np.asarray(rows, dtype=float).reshape(len(trials), len(self.objectives))

    def violations_NK(self, trials: Sequence[Trial]) -> np.ndarray:
        """Normalised violations, in the problem's order."""
        rows = [[trial.violations[c.label] for c in self.constraints] for trial in trials]
        return np.asarray(rows, dtype=float).reshape(len(trials), len(self.constraints))

    def to_json(self) -> dict[str, Any]:
        return {
            "space": self.space.id,
            "objectives": [objective.to_json() for objective in self.objectives],
            "constraints": [constraint.to_json() for constraint in self.constraints],
        }
