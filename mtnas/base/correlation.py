"""Rank correlation (Spearman). Shape letters: N = values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def spearman(left_N: np.ndarray | Sequence[float], right_N: np.ndarray | Sequence[float]) -> float:
    """Rank correlation, ties at their mean rank; NaN when one side is constant or there are fewer than two."""
    ranks = [_ranks(np.asarray(side, dtype=float)) for side in (left_N, right_N)]
    if len(ranks[0]) < 2 or any(np.ptp(r) == 0 for r in ranks):
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values_N: np.ndarray) -> np.ndarray:
    _, place_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[place_N]
