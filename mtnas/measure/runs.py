"""Timed runs, and which of them another process interrupted. Shape letters: R = rounds, N = runs of one round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_LEAST_CLEAN = 3


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

    def beside(self, other: Runs) -> Runs:
        """The runs of both in the same rounds."""
        return Runs(
            np.concatenate([self.ms_RN, other.ms_RN], axis=1),
            np.concatenate([self.interrupted_RN, other.interrupted_RN], axis=1),
        )

    def places(self) -> tuple[tuple[int, ...], ...]:
        """For each round the places of the interrupted runs."""
        return tuple(tuple(np.flatnonzero(row).tolist()) for row in self.interrupted_RN)
