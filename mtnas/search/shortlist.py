"""Which found networks are worth a measurement: the preferred ones, and ones that spread over the whole front.

A network whose predicted cost may still keep its limit (the interval reaches below the bound) is a candidate too:
predictions near the limit are never believed, in either direction. Shape letters: N = trials, M = objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mtnas.base.quantity import Predicted
from mtnas.search.dominance import nondominated_N
from mtnas.search.preference import rank
from mtnas.search.problem import Problem
from mtnas.search.trial import Trial


def shortlist(
    problem: Problem,
    tasks: Sequence[str],
    trials: Sequence[Trial],
    count: int,
    preference: Mapping[str, float] | None = None,
) -> tuple[Trial, ...]:
    """Up to `count` trials to measure: half by preference, half by spread, the front before what lies behind it."""
    candidates = [trial for trial in trials if may_be_feasible(problem, trial)]
    if not candidates:
        return ()
    on_front = nondominated_N(problem.losses_NM(candidates))
    front = [trial for trial, keep in zip(candidates, on_front, strict=True) if keep]
    chosen = list(rank(problem.objectives, tasks, front, preference or {})[: (count + 1) // 2])
    for pool in (front, candidates):
        chosen += _farthest(problem, chosen, [trial for trial in pool if trial not in chosen], count - len(chosen))
    return tuple(chosen)


def may_be_feasible(problem: Problem, trial: Trial) -> bool:
    """Whether every broken constraint is a predicted cost whose interval reaches the bound."""
    for constraint in problem.constraints:
        if trial.violations[constraint.label] <= 0:
            continue
        cost = trial.outcome.costs.get(constraint.name) if not constraint.metric else None
        if not isinstance(cost, Predicted) or constraint.violation(cost.low) > 0:
            return False
    return True


def _farthest(problem: Problem, chosen: Sequence[Trial], pool: Sequence[Trial], count: int) -> list[Trial]:
    """Greedily the trials that are farthest, in scaled objectives, from everything chosen so far."""
    if count <= 0 or not pool:
        return []
    loss_NM = problem.losses_NM([*chosen, *pool])
    spread_M = np.ptp(loss_NM, axis=0)
    scaled_NM = (loss_NM - loss_NM.min(axis=0)) / np.where(spread_M > 0, spread_M, 1.0)
    taken = list(range(len(chosen)))
    picked: list[Trial] = []
    while len(picked) < min(count, len(pool)):
        rest = [index for index in range(len(chosen), len(loss_NM)) if index not in taken]
        distances = [
            min((float(np.linalg.norm(scaled_NM[index] - scaled_NM[t])) for t in taken), default=0.0) for index in rest
        ]
        taken.append(rest[int(np.argmax(distances))])
        picked.append(pool[taken[-1] - len(chosen)])
    return picked
