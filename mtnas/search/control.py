"""What the two dials do: measures of control over a multi-task network, as functions on arrays and mappings.

One dial is the budget, the other the preference: a weight for each task, on the simplex. A controllable network is
asked a fixed set of (preference, budget) pairs, and each answer has scores and costs. The functions here tell how much
the dials move: hypervolume (how good the answers are together), rank correlation of preference and score for each task
(whether the dial turns the right way), range of each score (how far it turns), budget error, uniformity.

Loss ratios make the scores of different tasks comparable: v = 1 - r, where r is a score's relative gain over the
reference network's score, positive when better. So v is M / S where lower is better and 2 - M / S where higher is. It
is 1 at the reference, lower is better, and the mean of 1 - v over the tasks is the delta of convention `one_metric`.

A hypervolume means nothing without its reference point and the number of points behind it (it grows with every point):
both are part of the result. Sources: Zitzler and Thiele (1998); Raychaudhuri et al., Controllable Dynamic Multi-Task
Architectures (CVPR 2022), for hypervolume and uniformity as measures of control; Mahapatra and Rajan (ICML 2020), for
the uniformity.

Shape letters: N = answers, T = tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mtnas.base.correlation import spearman
from mtnas.base.errors import JobError, ModelError
from mtnas.base.optional import require
from mtnas.search.hypervolume import hypervolume

#: exact up to here; the exact algorithms take time exponential in the number of tasks
EXACT_TASKS = 5
MONTE_CARLO_SAMPLES = 100_000
#: a loss ratio: twice the reference's error, or a score of zero where higher is better
REFERENCE_RATIO = 2.0

Weights = dict[str, float]


# --- the fixed questions --------------------------------------------------------------------------------------


def simplex_preferences(tasks: Sequence[str], count: int = 20, seed: int = 0) -> list[Weights]:
    """`count` preferences spread evenly over the simplex: the spacings of a scrambled Sobol sequence.

    One task has one preference. The spacings of sorted uniform numbers are uniform on the simplex.
    """
    if not tasks or count < 1:
        raise JobError("at least one task and one preference", received=f"{len(tasks)}, {count}", where="preferences")
    if len(tasks) == 1:
        return [{tasks[0]: 1.0}]
    qmc = require("scipy.stats.qmc", why="an even set of preferences")
    sequence = qmc.Sobol(len(tasks) - 1, scramble=True, seed=np.random.default_rng(seed))
    cuts_NC = np.sort(sequence.random_base2(math.ceil(math.log2(count)))[:count], axis=1)
    ends = np.zeros((count, 1)), np.ones((count, 1))
    share_NT = np.diff(np.concatenate([ends[0], cuts_NC, ends[1]], axis=1), axis=1)
    return [dict(zip(tasks, map(float, row), strict=True)) for row in share_NT]


def sweep_preferences(tasks: Sequence[str], steps: int = 5) -> dict[str, list[Weights]]:
    """For each task, preferences from none of the weight to all of it; the other tasks share the rest equally."""
    if steps < 2 or len(tasks) < 2:
        raise JobError("at least two tasks and two steps", received=f"{len(tasks)}, {steps}", where="sweeps")
    rest = len(tasks) - 1
    return {
        task: [{t: share if t == task else (1.0 - share) / rest for t in tasks} for share in np.linspace(0, 1, steps)]
        for task in tasks
    }


# --- scores ---------------------------------------------------------------------------------------------------


def loss_ratios(
    scores: Mapping[str, float], reference: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> dict[str, float]:
    """Task -> v; 1 is the reference, lower is better.

    Args:
        scores: task -> the answer's score, in the metric's own unit.
        reference: task -> the score of the reference: single-task networks, or the unpruned network.
        higher_is_better: task -> the metric's direction; its order is the result's.

    Raises:
        JobError: a task without score or reference, or a reference of zero.
    """
    found = {}
    for task, higher in higher_is_better.items():
        for what, table in (("scores", scores), ("reference", reference)):
            if not math.isfinite(table.get(task, math.nan)):
                raise JobError(f"a finite score of {task}", received=str(table.get(task)), where=f"loss ratio, {what}")
        if not reference[task]:
            raise JobError(
                "a reference score that is not zero",
                received="0",
                where=f"loss ratio, {task}",
                cure="give reference scores of a network that has learned the task",
            )
        gain = (scores[task] - reference[task]) / abs(reference[task])
        found[task] = 1.0 - (gain if higher else -gain)
    return found


@dataclass(frozen=True)
class Volume:
    """A hypervolume with everything that it depends on.

    Args:
        value: of the region that the points dominate, up to the reference point.
        low, high: 95 % interval of the estimate; equal to `value` when it is exact.
        reference: the reference point, one number for each task.
        points: how many were given, those beyond the reference point included.
        samples: of the Monte Carlo estimate; 0 when it is exact.
    """

    value: float
    low: float
    high: float
    reference: tuple[float, ...]
    points: int
    samples: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "reference": list(self.reference)}


def ratio_hypervolume(
    ratios_NT: np.ndarray,
    reference: float | Sequence[float] = REFERENCE_RATIO,
    *,
    samples: int = MONTE_CARLO_SAMPLES,
    seed: int = 0,
) -> Volume:
    """Hypervolume of loss ratios: exact up to five tasks, beyond that estimated by Monte Carlo.

    Args:
        ratios_NT: lower is better.
        reference: the reference point, the same for every task or one each.
        samples: of the estimate.
        seed: of the estimate.
    """
    ratios_NT = np.asarray(ratios_NT, dtype=float)
    count, tasks = ratios_NT.shape
    reference_T = np.broadcast_to(np.asarray(reference, dtype=float), (tasks,))
    point = tuple(float(value) for value in reference_T)
    if tasks <= EXACT_TASKS:
        value = hypervolume(ratios_NT, reference_T)
        return Volume(value, value, value, point, count)
    value, error = union_volume(ratios_NT, reference_T, samples, np.random.default_rng(seed))
    return Volume(value, max(0.0, value - 1.96 * error), value + 1.96 * error, point, count, samples)


def union_volume(
    corners_NT: np.ndarray, reference_T: np.ndarray, samples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Volume of a union of boxes [corner, reference] and its standard error.

    Karp, Luby and Madras (1989): draw a box by its volume and a point in it; a point that k boxes hold counts 1/k. The
    relative error does not grow with the number of dimensions, as it does for points drawn in the bounding box.
    """
    if np.isnan(corners_NT).any():
        raise ModelError("numbers", received="NaN", where="hypervolume")
    corners_NT = np.unique(corners_NT[(corners_NT < reference_T).all(axis=1)], axis=0)
    if not len(corners_NT):
        return 0.0, 0.0
    volume_N = (reference_T - corners_NT).prod(axis=1)
    total = float(volume_N.sum())
    counts, squares = 0.0, 0.0
    for start in range(0, samples, 4096):
        size = min(4096, samples - start)
        box = corners_NT[rng.choice(len(corners_NT), size=size, p=volume_N / total)]
        point_ST = box + rng.random(box.shape) * (reference_T - box)
        weight_S = 1.0 / np.maximum(1, (corners_NT[None] <= point_ST[:, None]).all(axis=2).sum(axis=1))
        counts, squares = counts + float(weight_S.sum()), squares + float((weight_S**2).sum())
    mean = counts / samples
    deviation = math.sqrt(max(0.0, squares / samples - mean**2) / samples)
    return total * mean, total * deviation


def uniformity(preference_NT: np.ndarray, ratios_NT: np.ndarray) -> float:
    """Mean of 1 - KL(p v / sum(p v) || uniform): 1 where each loss is in inverse proportion to its preference."""
    weighted_NT = np.asarray(preference_NT, dtype=float) * np.asarray(ratios_NT, dtype=float)
    if (weighted_NT < 0).any() or not (weighted_NT.sum(axis=1) > 0).all():
        raise ModelError("loss ratios that are not negative, one of them above zero", where="uniformity")
    share_NT = weighted_NT / weighted_NT.sum(axis=1, keepdims=True)
    terms_NT = share_NT * np.log(np.where(share_NT > 0, share_NT, 1.0) * share_NT.shape[1])
    return float((1.0 - terms_NT.sum(axis=1)).mean())


# --- each dial ------------------------------------------------------------------------------------------------


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's: Pearson's correlation of ranks, ties at their mean rank; None where one of the two never changes."""
    if len(first) != len(second):
        raise ModelError("as many values as values", received=f"{len(first)}, {len(second)}", where="rank correlation")
    for values in (first, second):
        if not len(values) or np.isnan(np.asarray(values, dtype=float)).any():
            raise ModelError("numbers, at least one", received=str(values), where="rank correlation")
    found = spearman(first, second)
    return None if math.isnan(found) else min(1.0, max(-1.0, found))


def rank_control(
    preferences: Sequence[Mapping[str, float]], ratios: Sequence[Mapping[str, float]]
) -> dict[str, float | None]:
    """Task -> rank correlation of its preference and its quality: 1 where a higher weight never makes it worse."""
    tasks = list(ratios[0]) if ratios else []
    return {t: rank_correlation([p[t] for p in preferences], [-v[t] for v in ratios]) for t in tasks}


def score_ranges(scores: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Task -> lowest and highest score, and their distance."""
    found = {}
    for task in scores[0] if scores else ():
        values = [row[task] for row in scores]
        found[task] = {"low": min(values), "high": max(values), "range": max(values) - min(values)}
    return found


def budget_error(used: Sequence[float], asked: Sequence[float]) -> dict[str, float]:
    """How well a limit was used: mean and largest |used - asked| / asked, share of answers beyond it, mean room left.

    Args:
        used: cost of each answer.
        asked: its limit, in the same unit.
    """
    if len(used) != len(asked) or not len(used) or not all(bound > 0 for bound in asked):
        raise JobError(
            "a cost for each limit, limits above zero", received=f"{len(used)}, {asked}", where="budget error"
        )
    relative_N = np.asarray(used, dtype=float) / np.asarray(asked, dtype=float) - 1.0
    return {
        "mean": float(np.abs(relative_N).mean()),
        "max": float(np.abs(relative_N).max()),
        "violation_rate": float((relative_N > 0).mean()),
        "mean_room": float(np.maximum(0.0, -relative_N).mean()),
    }
