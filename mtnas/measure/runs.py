"""Timed runs, and which of them another process interrupted. Shape letters: R = rounds, N = runs of one round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_LEAST_CLEAN = 3
_FAR = 5.0  # spreads above the median from which on a run is an outlier
_FINEST_SPREAD = 0.01  # of the median: a clock that shows one number for all runs makes no outlier of the next tick


@dataclass(frozen=True)
class Outliers:
    """Runs far slower than the rest; they are counted, never left out.

    Args:
        count: runs beyond the bound.
        runs: runs in all.
        beyond_ms: median + 5 spreads; a spread is 1.4826 median absolute deviations, at least 1 % of the median.
        worst_ms: the slowest run.
        interrupted: how many of the outliers another process interrupted.
    """

    count: int
    runs: int
    beyond_ms: float
    worst_ms: float
    interrupted: int

    @property
    def share_percent(self) -> float:
        return 100.0 * self.count / self.runs

    @property
    def text(self) -> str:
        """One sentence, or nothing when there is no outlier."""
        if not self.count:
            return ""
        return (
            f"{self.count} of {self.runs} runs ({self.share_percent:.1f} %) took longer than {self.beyond_ms:.4g} ms, "
            f"{self.interrupted} of them interrupted; the slowest {self.worst_ms:.4g} ms"
        )

    def to_json(self) -> dict[str, float]:
        return {**asdict(self), "share_percent": self.share_percent}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Outliers:
        return Outliers(**{key: value for key, value in data.items() if key != "share_percent"})


@dataclass(frozen=True)
class Runs:
    """Runs of one network; rows are rounds.

    A run is interrupted when the system took the processor away in the middle. On a busy machine a long run is hit
    more often than a short one, which would make large networks look slower than they are. So the typical time of a
    round is the median of its other runs (of all, when fewer than three are left); nothing is thrown away, and
    percentiles above the median count every run.
    """

    ms_RN: np.ndarray
    interrupted_RN: np.ndarray

    @staticmethod
    def of(ms_RN: Sequence[Sequence[float]] | np.ndarray, interrupted: Sequence[Sequence[int]] = ()) -> Runs:
        """From raw runs and, for each round, the places of the interrupted ones."""
        ms_RN = np.asarray(ms_RN, dtype=float)
        marks_RN = np.zeros(ms_RN.shape, dtype=bool)
        for row, places in zip(marks_RN, interrupted):
            row[list(places)] = True
        return Runs(ms_RN, marks_RN)

    @property
    def clean_RN(self) -> np.ndarray:
        """The runs with NaN in place of interrupted ones, except in rounds where hardly any other is left."""
        enough_R1 = (~self.interrupted_RN).sum(axis=1, keepdims=True) >= _LEAST_CLEAN
        return np.where(self.interrupted_RN & enough_R1, np.nan, self.ms_RN)

    @property
    def medians_R(self) -> np.ndarray:
        return np.asarray(np.nanmedian(self.clean_RN, axis=1))

    @property
    def interrupted_percent(self) -> float:
        return 100.0 * float(self.interrupted_RN.mean())

    @property
    def outliers(self) -> Outliers:
        """Runs beyond the median and five spreads."""
        median = float(np.median(self.ms_RN))
        spread = max(1.4826 * float(np.median(np.abs(self.ms_RN - median))), _FINEST_SPREAD * median)
        beyond = median + _FAR * spread
        far_RN = self.ms_RN > beyond
        return Outliers(
            count=int(far_RN.sum()),
            runs=int(self.ms_RN.size),
            beyond_ms=beyond,
            worst_ms=float(self.ms_RN.max()),
            interrupted=int((far_RN & self.interrupted_RN).sum()),
        )

    def beside(self, other: Runs) -> Runs:
        """The runs of both in the same rounds."""
        return Runs(
            np.concatenate([self.ms_RN, other.ms_RN], axis=1),
            np.concatenate([self.interrupted_RN, other.interrupted_RN], axis=1),
        )

    def places(self) -> tuple[tuple[int, ...], ...]:
        """For each round the places of the interrupted runs."""
        return tuple(tuple(np.flatnonzero(row).tolist()) for row in self.interrupted_RN)
