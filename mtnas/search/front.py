"""The front: networks that no other network beats in every objective. Shape letters: N = trials, M = objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtnas.base.files import read_json, write_json
from mtnas.search.dominance import nondominated_N
from mtnas.search.feasible import no_network, violated
from mtnas.search.hypervolume import hypervolume, reference_losses
from mtnas.search.objectives import Objective
from mtnas.search.preference import rank, wishes
from mtnas.search.problem import Problem
from mtnas.search.trial import Trial

SCHEMA = "front/1"


def losses_NM(objectives: Sequence[Objective], trials: Sequence[Trial]) -> np.ndarray:
    """Objectives turned so that lower is better."""
    rows = [[o.loss(trial.outcome.objectives[o.name]) for o in objectives] for trial in trials]
    return np.asarray(rows, dtype=float).reshape(len(trials), len(objectives))


def hypervolume_history(problem: Problem, trials: Sequence[Trial], reference: Mapping[str, float]) -> list[float]:
    """Hypervolume of the feasible trials after each evaluation; never falls.

    Args:
        problem: gives the objectives and their directions.
        trials: in order of evaluation.
        reference: one value per objective, in its own unit; only what is better than it everywhere counts.
    """
    reference_M = reference_losses(problem.objectives, reference)
    loss_NM = problem.losses_NM(trials)
    history, kept = [0.0], np.empty((0, len(problem.objectives)))
    for trial, loss_M in zip(trials, loss_NM, strict=True):
        if not trial.feasible or (kept <= loss_M).all(axis=1).any():
            history.append(history[-1])
            continue
        kept = np.vstack([kept[~(kept >= loss_M).all(axis=1)], loss_M])
        history.append(hypervolume(kept, reference_M))
    return history[1:]


@dataclass(frozen=True)
class Front:
    """Feasible trials that do not beat each other, best in the first objective first. Build it with `Front.of`.

    Args:
        objectives: in the job's order.
        tasks: which of the objectives are tasks' scores; the others are costs.
        trials: the front.
        full: the unpruned network's trial, which percent budgets and floors refer to.
    """

    objectives: tuple[Objective, ...]
    tasks: tuple[str, ...]
    trials: tuple[Trial, ...]
    full: Trial | None = None

    @staticmethod
    def of(
        objectives: Sequence[Objective], tasks: Sequence[str], trials: Sequence[Trial], full: Trial | None = None
    ) -> Front:
        """The non-dominated ones of the feasible trials; the last trial of an arch counts: to re-measure, append."""
        feasible = [trial for trial in {trial.arch.id: trial for trial in trials}.values() if trial.feasible]
        loss_NM = losses_NM(objectives, feasible)
        kept = [feasible[index] for index in np.flatnonzero(nondominated_N(loss_NM))]
        kept.sort(key=lambda trial: [o.loss(trial.outcome.objectives[o.name]) for o in objectives])
        return Front(tuple(objectives), tuple(tasks), tuple(kept), full)

    def hypervolume(self, reference: Mapping[str, float]) -> float:
        """Volume that the front dominates, bounded by one value per objective in its own unit."""
        return hypervolume(losses_NM(self.objectives, self.trials), reference_losses(self.objectives, reference))

    def pick(
        self,
        budget: Mapping[str, float | int | str] | None = None,
        preference: Mapping[str, float] | None = None,
        floors: Mapping[str, float | int | str] | None = None,
    ) -> Trial:
        """Of the networks of the front that keep budget and floors, the one with the best preferred score among them.

        `mtnas.search.preference` tells how the score is made.

        Args:
            budget: limits by name, absolute or a percent of the unpruned network: `{"latency_ms": 8.0, "macs": "50%"}`.
            preference: task -> weight, 1 where silent.
            floors: task -> worst allowed score, absolute or relative to the unpruned network: `{"depth": "-3%"}`.

        Raises:
            Infeasible: no network of the front keeps them; names what is in the way and the cheapest way out.
        """
        constraints = wishes(self.objectives, self.full.outcome if self.full else None, budget or {}, floors or {})
        kept = [trial for trial in self.trials if not violated(constraints, trial.outcome)]
        ranked = rank(self.objectives, self.tasks, kept, preference or {})
        if not ranked:
            raise no_network(constraints, self.trials, "the front")
        return ranked[0]

    # --- files ------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "objectives": [objective.to_json() for objective in self.objectives],
            "tasks": list(self.tasks),
            "trials": [trial.to_json() for trial in self.trials],
            "full": self.full.to_json() if self.full else None,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Front:
        return Front(
            objectives=tuple(Objective.from_json(objective) for objective in data["objectives"]),
            tasks=tuple(data["tasks"]),
            trials=tuple(Trial.from_json(trial) for trial in data["trials"]),
            full=Trial.from_json(data["full"]) if data["full"] else None,
        )

    def save(self, path: Path) -> None:
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> Front:
        return Front.from_json(read_json(path, schema=SCHEMA))
