"""The never-slower gate: is the network after a step faster than before, by interleaved paired rounds.

Each network is opened twice. The two copies of one network show what this machine takes for a difference when there
is none (A/A), chance of memory placement included; only a larger change gets a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtnas.base.progress import Progress
from mtnas.base.quantity import Measured
from mtnas.base.seeds import generator
from mtnas.measure.config import MeasureConfig
from mtnas.measure.protocol import resolution_percent, together
from mtnas.measure.reach.base import Model
from mtnas.measure.record import median_ms
from mtnas.measure.runs import Runs
from mtnas.measure.statistics import ratio_of_medians

Word = Literal["faster", "equal", "slower"]


@dataclass(frozen=True)
class Verdict:
    """What the gate found; `ratio` is after / before, below 1 when faster."""

    verdict: Word
    ratio: float
    low: float
    high: float
    resolution_percent: float
    before: Measured
    after: Measured
    text: str

    @property
    def passed(self) -> bool:
        return self.verdict != "slower"

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "gate/1",
            "verdict": self.verdict,
            "ratio": self.ratio,
            "low": self.low,
            "high": self.high,
            "resolution_percent": self.resolution_percent,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "text": self.text,
        }


def never_slower(before: Model, after: Model, config: MeasureConfig, *, progress: Progress | None = None) -> Verdict:
    """Measure both networks, interleaved, and judge."""
    models = {"before": before, "before again": before, "after": after, "after again": after}
    return judge(together(models, tuple(models), config, "gate", progress), config)


def judge(runs: Mapping[str, Runs], config: MeasureConfig) -> Verdict:
    """The verdict from raw runs of `before`, `before again`, `after`, `after again` (rounds in common)."""
    rounds_R = {name: those.medians_R for name, those in runs.items()}
    rng = generator(config.seed, "measure", "gate")
    before_R = (rounds_R["before"] + rounds_R["before again"]) / 2.0
    after_R = (rounds_R["after"] + rounds_R["after again"]) / 2.0
    ratio, low, high = ratio_of_medians(before_R, after_R, config.confidence, rng)
    controls = [
        ratio_of_medians(rounds_R[name], rounds_R[f"{name} again"], config.confidence, rng)
        for name in ("before", "after")
    ]
    resolution = max(config.claim_percent, *(resolution_percent(c[1], c[2]) for c in controls))
    word = _word(ratio, low, high, resolution / 100.0)
    measured = {name: median_ms(runs[name].beside(runs[f"{name} again"]), config) for name in ("before", "after")}
    return Verdict(
        verdict=word,
        ratio=ratio,
        low=low,
        high=high,
        resolution_percent=resolution,
        before=measured["before"],
        after=measured["after"],
        text=_sentence(word, measured["before"], measured["after"], (ratio, low, high), resolution),
    )


def _word(ratio: float, low: float, high: float, resolution: float) -> Word:
    if high < 1.0 and 1.0 - ratio > resolution:
        return "faster"
    if low > 1.0 and ratio - 1.0 > resolution:
        return "slower"
    return "equal"


def _sentence(
    word: Word, before: Measured, after: Measured, ratio: tuple[float, float, float], resolution: float
) -> str:
    measured = (
        f"{before.value:.3f} ms before, {after.value:.3f} ms after: ratio {ratio[0]:.3f} "
        f"({ratio[1]:.3f} to {ratio[2]:.3f}); differences below {resolution:.1f} % cannot be told apart here now"
    )
    return (
        {"faster": "faster", "slower": "slower", "equal": "no difference that could be claimed"}[word] + ": " + measured
    )
