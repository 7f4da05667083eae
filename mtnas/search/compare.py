"""Comparing strategies over seeds: paired gains at equal evaluations, with a t interval.

The pairing is by seed: both lines of one seed share the trained network and the reference point, so their difference is
what the strategy did. A claim needs at least three seeds and an interval that excludes zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from mtnas.base.errors import JobError
from mtnas.base.optional import require

MIN_SEEDS = 3

Histories = Mapping[int, Sequence[float]]
"""Seed -> hypervolume after each evaluation."""


@dataclass(frozen=True)
class PairedGain:
    """Mean difference between two lines over seeds.

    Args:
        mean: of the per-seed differences.
        low, high: t interval of the mean; infinite with a single seed.
        count: number of seeds.
        confidence: of the interval.
        unit: `hypervolume`, or `percent` of the rival.
        gains: the per-seed differences, in ascending order of seed.
    """

    mean: float
    low: float
    high: float
    count: int
    confidence: float
    unit: str
    gains: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `no difference detected`, or `not claimed` with too few seeds."""
        if self.count < MIN_SEEDS:
            return "not claimed"
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no difference detected"

    def to_json(self) -> dict[str, Any]:
        bounds = {name: v if math.isfinite(v) else None for name, v in (("low", self.low), ("high", self.high))}
        return {**asdict(self), **bounds, "gains": list(self.gains), "verdict": self.verdict}

    def __str__(self) -> str:
        sign = "%" if self.unit == "percent" else ""
        interval = f"[{self.low:+.3g}{sign}, {self.high:+.3g}{sign}]"
        return f"{self.mean:+.3g}{sign} {interval} over {self.count} seeds: {self.verdict}"


def paired_gain(
    ours: Histories, rival: Histories, *, at: int | None = None, relative: bool = False, confidence: float = 0.95
) -> PairedGain:
    """Gain of one line over another at equal evaluations.

    Args:
        ours, rival: seed -> history; the same seeds in both.
        at: number of evaluations to compare at; the shortest history when not given.
        relative: in percent of the rival's value instead of absolute.
        confidence: of the interval.
    """
    if not ours or set(ours) != set(rival):
        raise JobError("the same seeds in both lines", received=f"{sorted(ours)} and {sorted(rival)}", where="compare")
    shortest = min(len(history) for line in (ours, rival) for history in line.values())
    at = shortest if at is None else at
    if not 1 <= at <= shortest:
        raise JobError(f"1 to {shortest} evaluations in every line", received=str(at), where="compare")
    ends = [(ours[seed][at - 1], rival[seed][at - 1]) for seed in sorted(ours)]
    if relative and any(b <= 0 for _, b in ends):
        raise JobError("a rival above zero for a relative gain", received=str([b for _, b in ends]), where="compare")
    gains = [100.0 * (a - b) / b if relative else a - b for a, b in ends]
    low, high = t_interval(gains, confidence)
    unit = "percent" if relative else "hypervolume"
    return PairedGain(fmean(gains), low, high, len(gains), confidence, unit, tuple(gains))


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided Student interval of the mean; infinite for a single value."""
    if len(values) < 2:
        return -math.inf, math.inf
    quantile = float(require("scipy.stats").t.ppf(0.5 + confidence / 2, len(values) - 1))
    half = quantile * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def mean_history(histories: Histories) -> list[float]:
    """Mean over seeds after each evaluation, up to the shortest history."""
    return [fmean(values) for values in zip(*histories.values(), strict=False)]


def compare(lines: Mapping[str, Histories], baseline: str, *, confidence: float = 0.95) -> dict[str, Any]:
    """Every line against the baseline: mean history, final mean, absolute and relative gain; ready for JSON."""
    if baseline not in lines:
        raise JobError("the baseline among the lines", received=f"{baseline!r} not in {sorted(lines)}", where="compare")
    evaluations = min(len(history) for line in lines.values() for history in line.values())
    rows: dict[str, Any] = {}
    for name, histories in lines.items():
        row: dict[str, Any] = {"mean_history": mean_history(histories), "final": {}}
        row["final"] = {str(seed): history[evaluations - 1] for seed, history in sorted(histories.items())}
        if name != baseline:
            gain = paired_gain(histories, lines[baseline], at=evaluations, confidence=confidence)
            row["gain"] = gain.to_json()
            if all(history[evaluations - 1] > 0 for history in lines[baseline].values()):
                relative = paired_gain(histories, lines[baseline], at=evaluations, relative=True, confidence=confidence)
                row["gain_percent"] = relative.to_json()
        rows[name] = row
    return {"schema": "compare/1", "baseline": baseline, "evaluations": evaluations, "lines": rows}
