"""Costs of parts from costs of networks: least squares with parts that are never negative.

A network that answers the tasks S contains every part that serves a task of S. So its cost is the sum of these parts
and of a fixed cost per call; what does not add up stays as a residual and is stated. Differences count relatively, as
small networks matter as much as large ones. Over all subsets of the tasks the parts are determined uniquely.

Shape letters: S = measured subsets, P = parts, D = draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

Tasks = tuple[str, ...]

#: with no more tasks than this, every subset is measured
EVERY_SUBSET = 5
MOST_SUBSETS = 40
_DRAWS = 200


def subsets_to_measure(tasks: Sequence[str]) -> tuple[Tasks, ...]:
    """Which subsets determine the parts: all of few tasks; else the whole, single ones, all but one, and pairs."""
    count = len(tasks)
    sizes = range(count, 0, -1) if count <= EVERY_SUBSET else (count, 1, count - 1, 2)
    found = [subset for size in sizes for subset in combinations(tasks, size)]
    return tuple(dict.fromkeys(found)) if count <= EVERY_SUBSET else tuple(dict.fromkeys(found))[:MOST_SUBSETS]


def incidence(parts: Sequence[Tasks], subsets: Sequence[Tasks]) -> np.ndarray:
    """(S, P): 1 where the subset needs the part."""
    return np.array([[float(bool(set(part) & set(subset))) for part in parts] for subset in subsets])


def fit_parts(incidence_SP: np.ndarray, cost_S: np.ndarray, fixed: float = 0.0) -> np.ndarray:
    """(P,) costs >= 0 of the parts; `fixed` is what every network costs beside them."""
    from scipy.optimize import nnls

    scale_S = 1.0 / np.maximum(cost_S, 1e-12)
    solution: np.ndarray = nnls(incidence_SP * scale_S[:, None], (cost_S - fixed) * scale_S)[0]
    return solution


def residuals_percent(incidence_SP: np.ndarray, cost_S: np.ndarray, parts_P: np.ndarray, fixed: float) -> np.ndarray:
    """(S,) sum of parts against the measured cost, in percent of it; above 0 where the sum is too high."""
    return np.asarray(100.0 * (incidence_SP @ parts_P + fixed - cost_S) / np.maximum(cost_S, 1e-12))


def checkable(incidence_SP: np.ndarray) -> bool:
    """Whether more was measured than needed to determine the parts; otherwise residuals are zero by construction."""
    return len(incidence_SP) > int(np.linalg.matrix_rank(incidence_SP))


def resampled(
    incidence_SP: np.ndarray, rounds_S: Sequence[np.ndarray], fixed_R: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(D, P) parts fitted on resampled rounds of every network."""
    parts_DP = np.empty((_DRAWS, incidence_SP.shape[1]))
    for draw in range(_DRAWS):
        cost_S = np.array([_median_of_draw(rounds_R, rng) for rounds_R in rounds_S])
        parts_DP[draw] = fit_parts(incidence_SP, cost_S, _median_of_draw(fixed_R, rng))
    return parts_DP


def _median_of_draw(rounds_R: np.ndarray, rng: np.random.Generator) -> float:
    return float(np.median(rng.choice(rounds_R, size=len(rounds_R))))
