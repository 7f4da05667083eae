"""Hypervolume: the volume that a set of points dominates, bounded by a reference point (Zitzler and Thiele, 1998).

Computed by pymoo's indicator; this file only settles orientation and the reference point, which has no default because
the number means nothing without it. Shape letters: N = points, M = objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mtnas.base.errors import JobError, ModelError
from mtnas.base.optional import require
from mtnas.search.objectives import Objective
from mtnas.search.problem import Problem
from mtnas.search.trial import Outcome


def hypervolume(losses_NM: np.ndarray, reference_M: np.ndarray) -> float:
    """Volume between the points and the reference, lower being better; points not below the reference add nothing."""
    if np.isnan(losses_NM).any() or np.isnan(reference_M).any():
        raise ModelError("numbers", received="NaN", where="hypervolume")
    inside = losses_NM[(losses_NM < reference_M).all(axis=1)]
    if not len(inside):
        return 0.0
    indicator = require("pymoo.indicators.hv", why="the hypervolume").HV(ref_point=reference_M)
    return float(indicator(inside))


def reference_losses(objectives: Sequence[Objective], reference: Mapping[str, float]) -> np.ndarray:
    """(M,) a reference point in the objectives' own units, turned so that lower is better."""
    missing = [objective.name for objective in objectives if objective.name not in reference]
    if missing:
        raise JobError("a reference value for every objective", received=f"none for {missing}", where="hypervolume")
    return np.array([objective.loss(float(reference[objective.name])) for objective in objectives])


def reference_point(problem: Problem, extremes: Sequence[Outcome], margin: float = 0.1) -> dict[str, float]:
    """A reference that does not depend on who searched.

    It is the bound where an objective has a limit or a floor, since nothing beyond it counts; elsewhere the worse of
    the extremes, plus a margin.

    Args:
        problem: objectives and constraints.
        extremes: outcomes of the largest and the smallest network.
        margin: fraction of the distance between the extremes, so that the extremes themselves count.
    """
    bounds = {c.name: c.bound for c in problem.constraints if not c.metric}
    point = {}
    for objective in problem.objectives:
        if objective.name in bounds:
            point[objective.name] = bounds[objective.name]
            continue
        losses = [objective.loss(outcome.objectives[objective.name]) for outcome in extremes]
        distance = max(losses) - min(losses) or abs(max(losses)) or 1.0
        point[objective.name] = objective.value(max(losses) + margin * distance)
    return point
