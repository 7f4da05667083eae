"""Which heads pay for int8: score after quantizing, and give the most damaged head its float layers back.

Greedy, one step at a time: first a head's output layers, then its whole decoder. When every decoder is float and a
task still misses its bound, the damage is in the shared part, and the float network is the one to deliver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from mtnas.base.errors import JobError
from mtnas.base.progress import Progress, Silent
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.ptq import quantize_onnx

Score = Callable[[onnx.ModelProto], Mapping[str, float]]
#: below this a score counts as zero when a drop is given in percent
_TINY = 1e-9


@dataclass(frozen=True)
class Goal:
    """The worst score a task may have; without a bound it follows from the float network's score."""

    higher_is_better: bool
    bound: float | None = None

    def shortfall(self, value: float, float_value: float, drop_percent: float) -> float:
        """How far a score is on the wrong side of the bound, as a share of the float score; negative when kept.

        A bound that the float network itself misses is not quantization's to keep: then the drop alone counts.
        """
        sign = 1.0 if self.higher_is_better else -1.0
        allowed = float_value - sign * drop_percent / 100.0 * abs(float_value)
        if self.bound is not None and sign * (float_value - self.bound) >= 0:
            allowed = self.bound
        return sign * (allowed - value) / max(abs(float_value), _TINY)


@dataclass(frozen=True)
class Attempt:
    """One quantized network that was scored."""

    float_heads: tuple[str, ...]
    float_branches: tuple[str, ...]
    scores: Mapping[str, float]
    shortfall: Mapping[str, float]

    @property
    def kept(self) -> bool:
        return max(self.shortfall.values(), default=0.0) <= 0.0


@dataclass(frozen=True)
class Quantized:
    """The outcome: the last network tried, with the settings that made it.

    Args:
        model: int8 network.
        config: the settings, float heads and branches included.
        float_scores: the float network's score by task.
        attempts: every network tried, in order; the last one is `model`.
    """

    model: onnx.ModelProto
    config: QuantizeConfig
    float_scores: Mapping[str, float]
    attempts: tuple[Attempt, ...]

    @property
    def kept(self) -> bool:
        """Whether every task keeps its bound."""
        return self.attempts[-1].kept

    def drops_percent(self, goals: Mapping[str, Goal]) -> dict[str, float]:
        """How much each task lost against float, in percent; negative means it gained."""
        last = self.attempts[-1].scores
        return {
            task: 100.0 * replace(goal, bound=None).shortfall(last[task], self.float_scores[task], 0.0)
            for task, goal in goals.items()
        }

    @property
    def reason(self) -> str:
        """One sentence for the report."""
        last = self.attempts[-1]
        floats = [
            *(f"{task}'s output layers" for task in last.float_heads),
            *(f"{task}'s decoder" for task in last.float_branches),
        ]
        if not last.kept:
            worst = max(last.shortfall, key=lambda task: last.shortfall[task])
            return f"{worst} misses its bound even with float decoders: the shared layers lose too much in int8"
        return f"every task keeps its bound{' with ' + ', '.join(floats) + ' in float' if floats else ''}"

    def to_json(self) -> dict[str, Any]:
        last = self.attempts[-1]
        return {
            "dialect": self.config.dialect,
            "float_heads": list(last.float_heads),
            "float_branches": list(last.float_branches),
            "kept": self.kept,
            "reason": self.reason,
            "float_scores": dict(self.float_scores),
            "attempts": [
                {
                    "float_heads": list(a.float_heads),
                    "float_branches": list(a.float_branches),
                    "scores": dict(a.scores),
                    "shortfall": dict(a.shortfall),
                }
                for a in self.attempts
            ],
        }


def quantize_within(
    model: onnx.ModelProto,
    batches: Sequence[np.ndarray],
    config: QuantizeConfig,
    *,
    goals: Mapping[str, Goal],
    score: Score,
    progress: Progress | None = None,
) -> Quantized:
    """Quantize so that every task keeps its bound, with as little float as a greedy choice needs.

    Args:
        model: float network.
        batches: calibration images; read once for each attempt.
        config: where to start.
        goals: direction and bound by task; must be scored by `score`.
        score: one value per task for a network; on data that is not used to report.
        progress: shows one bar.
    """
    float_scores = dict(score(model))
    missing = [task for task in goals if task not in float_scores]
    if missing:
        raise JobError("a score for every task with a goal", received=f"none for {missing}", where="quantize")
    attempts: list[Attempt] = []
    current = config
    with (progress or Silent()).task("quantize", 2 * len(goals) + 1) as bar:
        while True:
            quantized = quantize_onnx(model, batches, current)
            scores = dict(score(quantized))
            shortfall = {
                task: goal.shortfall(scores[task], float_scores[task], config.max_drop_percent)
                for task, goal in goals.items()
            }
            attempts.append(Attempt(current.float_heads, current.float_branches, scores, shortfall))
            bar.advance()
            following = _relieved(current, shortfall)
            if attempts[-1].kept or following is None:
                return Quantized(quantized, current, float_scores, tuple(attempts))
            current = following


def _relieved(config: QuantizeConfig, shortfall: Mapping[str, float]) -> QuantizeConfig | None:
    """The settings with the most damaged head one step further in float; None when there is nothing left to give."""
    for task in sorted(shortfall, key=lambda name: -shortfall[name]):
        if shortfall[task] <= 0 or task in config.float_branches:
            continue
        if task in config.float_heads:
            heads = tuple(name for name in config.float_heads if name != task)
            return replace(config, float_heads=heads, float_branches=(*config.float_branches, task))
        return replace(config, float_heads=(*config.float_heads, task))
    return None
