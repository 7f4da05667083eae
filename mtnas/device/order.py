"""Distribution-free interval of a quantile from order statistics, and the typical time of a round."""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np

LEAST_CLEAN = 3


def binomial_cdf(count: int, p: float) -> np.ndarray:
    """P(X <= k) for k = 0..count, X ~ Binomial(count, p)."""
    k = np.arange(count + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    log_choose = log_factorial[count] - log_factorial[k] - log_factorial[count - k]
    return np.minimum(np.cumsum(np.exp(log_choose + k * math.log(p) + (count - k) * math.log1p(-p))), 1.0)


def quantile_interval(values: Sequence[float] | np.ndarray, q: float, confidence: float) -> tuple[float, float]:
    """Order-statistics interval of the q-quantile of independent samples.

    With too few samples for the confidence asked the smallest or largest sample stands in, which covers less.
    """
    ordered, tail = np.sort(np.asarray(values, dtype=float)), (1.0 - confidence) / 2.0
    cdf = binomial_cdf(len(ordered), q)
    below = np.flatnonzero(cdf <= tail)  # the l-th sample exceeds the quantile when fewer than l samples lie below it
    low = ordered[below[-1]] if len(below) else ordered[0]
    above = np.flatnonzero(cdf >= 1.0 - tail)
    high = ordered[above[0]] if above[0] < len(ordered) else ordered[-1]
    return float(low), float(high)


def round_median(times_ms: Sequence[float], interrupted: Sequence[int]) -> float:
    """Median of a round's uninterrupted runs; of all, when fewer than three are left."""
    away = set(interrupted)
    clean = [time for place, time in enumerate(times_ms) if place not in away]
    return float(np.median(clean if len(clean) >= LEAST_CLEAN else times_ms))
