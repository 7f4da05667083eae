"""Intervals of medians, percentiles and ratios that hold on a noisy machine.

Distribution-free order statistics where samples are independent (one number a round), resampling of whole rounds
where they are not (runs inside a round share its weather). Shape letters: R = rounds, N = runs of a round, D = draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mtnas.device.order import binomial_cdf, quantile_interval

__all__ = [
    "binomial_cdf",
    "nested_quantile_interval",
    "percentile_bound",
    "quantile_interval",
    "ratio_of_medians",
    "rounds_quantile_interval",
    "samples_to_bound",
]

_DRAWS = 1000


def percentile_bound(values: Sequence[float] | np.ndarray, q: float, confidence: float) -> float | None:
    """The smallest sample that the q-quantile exceeds with probability 1 - confidence at most; None with too few.

    The rule of MLPerf's early stopping (inference rules, appendix, with tolerance 0): of n independent samples the
    t slowest may be left out as long as the binomial tail allows it, and the slowest of the rest is the bound.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    above = np.flatnonzero(binomial_cdf(len(ordered), q) >= confidence)
    if not len(above) or above[0] >= len(ordered):
        return None
    return float(ordered[above[0]])


def samples_to_bound(q: float, confidence: float) -> int:
    """How many independent samples it takes until the largest one bounds the q-quantile."""
    return math.ceil(math.log1p(-confidence) / math.log(q))


def rounds_quantile_interval(
    runs_RN: np.ndarray, q: float, confidence: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Interval of the q-quantile of all runs, from resampled rounds."""
    rounds = len(runs_RN)
    drawn = [np.quantile(runs_RN[rng.integers(rounds, size=rounds)], q) for _ in range(_DRAWS // 4)]
    return _tails(np.asarray(drawn), confidence)


def ratio_of_medians(
    before_R: np.ndarray, after_R: np.ndarray, confidence: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """median(after) / median(before) and its interval; the rounds are drawn in pairs, so shared weather cancels."""
    picks_DR = rng.integers(len(before_R), size=(_DRAWS, len(before_R)))
    drawn = np.median(after_R[picks_DR], axis=1) / np.median(before_R[picks_DR], axis=1)
    low, high = _tails(drawn, confidence)
    value = float(np.median(after_R) / np.median(before_R))
    return value, min(low, value), max(high, value)


def nested_quantile_interval(
    processes: Sequence[np.ndarray], q: float, confidence: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Interval of the q-quantile when processes, and rounds inside each, are both a sample; NaN is left out."""
    drawn = []
    for _ in range(_DRAWS // 4):
        picked = (processes[i] for i in rng.integers(len(processes), size=len(processes)))
        drawn.append(
            np.nanquantile(
                np.concatenate([runs[rng.integers(len(runs), size=len(runs))].ravel() for runs in picked]), q
            )
        )
    return _tails(np.asarray(drawn), confidence)


def _tails(drawn_D: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn_D, [tail, 1.0 - tail])
    return float(low), float(high)
