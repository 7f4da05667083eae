"""From what a user wishes to an order of networks.

The preferred score: each task's score is scaled to 0 (worst of the given trials) .. 1 (best), whichever direction its
metric has; the preferred score is the weighted mean over the tasks. A task that the preference does not name weighs 1,
so `{"segmentation": 2}` means twice as important as each other task. Ties go to the lower costs, then to the arch's id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mtnas.base.budget import Budget, Floor
from mtnas.base.errors import JobError
from mtnas.base.tables import nearest
from mtnas.search.objectives import Constraint, Objective, floor_constraints, limit_constraints
from mtnas.search.trial import Outcome, Trial


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
    """One score per trial, 0 to 1; the scale comes from the given trials."""
    share = weights(tasks, preference)
    totals = [0.0] * len(trials)
    for objective in objectives:
        if objective.name not in share:
            continue
        losses = [objective.loss(trial.outcome.objectives[objective.name]) for trial in trials]
        worst, best = max(losses, default=0.0), min(losses, default=0.0)
        for index, loss in enumerate(losses):
            totals[index] += share[objective.name] * ((worst - loss) / (worst - best) if worst > best else 1.0)
    return totals


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
