"""From what a user wishes to an order of networks.

The preferred score: a task's regret is 0 at the best score that any of the given networks has, and 1 at the worst one
that a network has which no other beats in all tasks. A network's score is 1 less the largest of its regrets, each times
its task's weight, mixed with a fifth of their sum: the achievement function of reference point methods, an augmented
Chebyshev distance (Wierzbicki, 1980; Steuer and Choo, 1983). A weighted sum alone would only ever lead to the few
networks at the corners of the front, and jump from one to the next as the preference moves (Das and Dennis, 1997).

A task that the preference does not name weighs 1, so `{"segmentation": 2}` means twice as important as each other task.
Ties go to the lower costs, then to the arch's id. Shape letters: N = networks, T = tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mtnas.base.budget import Budget, Floor
from mtnas.base.errors import JobError
from mtnas.base.tables import nearest
from mtnas.search.dominance import nondominated_N
from mtnas.search.objectives import Constraint, Objective, floor_constraints, limit_constraints
from mtnas.search.trial import Outcome, Trial

#: of the regrets' sum in a preferred score, beside the largest regret: what is better in one task alone is preferred
SUM_SHARE = 0.2


def weights(tasks: Sequence[str], preference: Mapping[str, float]) -> dict[str, float]:
    """Task -> weight, summing to one."""
    for name, weight in preference.items():
        if name not in tasks:
            raise JobError("a task of this job", received=repr(name), where="preference", cure=nearest(name, tasks))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise JobError("a weight of 0 or more", received=repr(weight), where=f"preference.{name}")
    raw = {task: float(preference.get(task, 1.0)) for task in tasks}
    total = sum(raw.values())
    if not total:
        raise JobError("at least one weight above 0", received=str(dict(preference)), where="preference")
    return {task: weight / total for task, weight in raw.items()}


def preferred_scores(
    objectives: Sequence[Objective], tasks: Sequence[str], trials: Sequence[Trial], preference: Mapping[str, float]
) -> list[float]:
    """One score per trial, 1 the best that any could have; the scale comes from the given trials."""
    share = weights(tasks, preference)
    scored = [objective for objective in objectives if objective.name in share]
    rows = [[o.loss(trial.outcome.objectives[o.name]) for o in scored] for trial in trials]
    loss_NT = np.asarray(rows, dtype=float).reshape(len(trials), len(scored))
    weight_T = np.array([share[o.name] for o in scored])
    return (1.0 - distances_N(regrets_NT(loss_NT), weight_T)).tolist() if trials else []


def regrets_NT(loss_NT: np.ndarray) -> np.ndarray:
    """(N, T) 0 at the lowest loss of each task, 1 at the highest that a network has which no other one beats."""
    best_T = loss_NT.min(axis=0)
    front_T, every_T = (rows.max(axis=0) - best_T for rows in (loss_NT[nondominated_N(loss_NT)], loss_NT))
    span_T = np.where(front_T > 0, front_T, np.where(every_T > 0, every_T, 1.0))
    return np.asarray((loss_NT - best_T) / span_T)


def distances_N(regret_NT: np.ndarray, weight_T: np.ndarray) -> np.ndarray:
    """(N,) how far each network is from the best score of every task; the weights sum to one."""
    weighed_NT = regret_NT * weight_T
    return np.asarray((1.0 - SUM_SHARE) * weighed_NT.max(axis=1) + SUM_SHARE * weighed_NT.sum(axis=1))


def rank(
    objectives: Sequence[Objective], tasks: Sequence[str], trials: Sequence[Trial], preference: Mapping[str, float]
) -> tuple[Trial, ...]:
    """Trials with the best preferred score first."""
    scores = preferred_scores(objectives, tasks, trials, preference)
    costs = [objective for objective in objectives if objective.name not in tasks]

    def key(index: int) -> tuple[float, list[float], str]:
        trial = trials[index]
        return -scores[index], [o.loss(trial.outcome.objectives[o.name]) for o in costs], trial.arch.id

    return tuple(trials[index] for index in sorted(range(len(trials)), key=key))


def wishes(
    objectives: Sequence[Objective],
    full: Outcome | None,
    budget: Mapping[str, float | int | str],
    floors: Mapping[str, float | int | str],
) -> tuple[Constraint, ...]:
    """Budget and floors as a user types them, made absolute by the unpruned network's outcome."""
    costs = {name: cost.value for name, cost in full.costs.items()} if full else {}
    scores = dict(full.objectives) if full else {}
    return (
        *limit_constraints(Budget.parse(budget), costs),
        *floor_constraints([Floor.parse(task, text) for task, text in floors.items()], objectives, scores),
    )
