"""What to measure next: the networks about which a linear model of the cost is least sure, all different.

Each choice has the largest predictive variance given everything chosen before it, in the same batch too (greedy
D-optimal design; Fedorov, 1972). Rows are divided by the predicted cost, so that relative errors count. Shape letters:
N = networks of the pool, F = features, D = directions in which they differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtnas.measure.fitting import non_negative

_MOST_DIRECTIONS = 40
#: Variance of the weights before anything is measured, against that of a measurement.
_PRIOR = 1e3


def directions(features_NF: np.ndarray, cost_N: np.ndarray) -> np.ndarray:
    """(N, D) coordinates of networks relative to their cost, along the main directions of the pool."""
    rows_NF = features_NF / np.maximum(cost_N, 1e-12)[:, None]
    rows_NF = rows_NF / np.maximum(np.abs(rows_NF).max(axis=0), 1e-12)
    left_ND, size_D, _ = np.linalg.svd(rows_NF - rows_NF.mean(axis=0), full_matrices=False)
    keep = int((size_D > 1e-3 * size_D[0]).sum()) if size_D[0] > 0 else 0
    flat_ND = left_ND[:, : min(keep, _MOST_DIRECTIONS)] * size_D[: min(keep, _MOST_DIRECTIONS)]
    return np.column_stack([np.ones(len(rows_NF)), flat_ND])


def choose_next(
    features_NF: np.ndarray, known: Sequence[int], cost_K: np.ndarray, free: Sequence[int], count: int
) -> list[int]:
    """The next `count` of the free networks, most informative first.

    Args:
        features_NF: of the whole pool.
        known: places of the measured networks that a fit may use.
        cost_K: their measured costs.
        free: places of the networks to choose from.
        count: how many; all that are free when there are fewer.
    """
    base = non_negative(features_NF[list(known)], cost_K, 1e-4)
    cost_N = np.maximum(base.predict(features_NF), 0.2 * cost_K.min())
    points_ND = directions(features_NF, cost_N)
    covariance = np.linalg.inv(np.eye(points_ND.shape[1]) / _PRIOR + points_ND[list(known)].T @ points_ND[list(known)])
    left = list(free)
    chosen: list[int] = []
    while left and len(chosen) < count:
        rows = points_ND[left]
        variance = np.einsum("nd,de,ne->n", rows, covariance, rows)
        place = int(np.argmax(variance))
        row = rows[place]
        pull = covariance @ row
        covariance = covariance - np.outer(pull, pull) / (1.0 + float(row @ pull))
        chosen.append(left.pop(place))
    return chosen
