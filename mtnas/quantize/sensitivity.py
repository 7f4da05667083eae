"""Which heads pay for int8: score after quantizing, and give the most damaged head its float layers back.

Greedy, one step at a time: first a head's output layers, then its whole decoder. When every decoder that loses too
much is float and a task still misses its bound, the damage is in the shared part, and the float network is the one to
deliver.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from mtnas.base.errors import InternalError, JobError
from mtnas.base.progress import Progress, Silent
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.ptq import quantize_onnx

Batches = Callable[[], Iterable[np.ndarray]]
Losses = Callable[[onnx.ModelProto], Mapping[str, float]]


@dataclass(frozen=True)
class Attempt:
    """One quantized network that was scored.

    Args:
        float_heads: tasks whose output layers were float.
        float_branches: tasks whose decoder was float.
        losses_percent: how much worse each task became than in float.
        excess_percent: how far that is beyond what the task may lose; negative when kept.
    """

    float_heads: tuple[str, ...]
    float_branches: tuple[str, ...]
    losses_percent: Mapping[str, float]
    excess_percent: Mapping[str, float]

    @property
    def kept(self) -> bool:
        return all(value <= 0.0 for value in self.excess_percent.values())


@dataclass(frozen=True)
class Quantized:
    """The outcome: the last network tried, with the settings that made it."""

    model: onnx.ModelProto
    config: QuantizeConfig
    attempts: tuple[Attempt, ...]

    @property
    def kept(self) -> bool:
        """Whether no task lost more than it may."""
        return self.attempts[-1].kept

    @property
    def reason(self) -> str:
        """One sentence for the report."""
        last = self.attempts[-1]
        if not last.kept:
            worst = max(last.excess_percent, key=lambda task: last.excess_percent[task])
            return (
                f"{worst} loses {last.losses_percent[worst]:.2f} % in int8 even with its decoder in float: "
                "the shared layers lose too much"
            )
        floats = [f"{task}'s output layers" for task in last.float_heads]
        floats += [f"{task}'s decoder" for task in last.float_branches]
        return f"every task loses little enough{' with ' + ', '.join(floats) + ' in float' if floats else ''}"

    def to_json(self) -> dict[str, Any]:
        last = self.attempts[-1]
        return {
            "float_heads": list(last.float_heads),
            "float_branches": list(last.float_branches),
            "kept": self.kept,
            "why": self.reason,
            "attempts": [
                {
                    "float_heads": list(attempt.float_heads),
                    "float_branches": list(attempt.float_branches),
                    "losses_percent": dict(attempt.losses_percent),
                }
                for attempt in self.attempts
            ],
        }


def allowed_loss_percent(bound: float, float_value: float, higher_is_better: bool) -> float | None:
    """What a task may lose, in percent of its float score, before it meets a floor.

    None when the float network misses the floor already: then the floor is not quantization's to keep.
    """
    slack = float_value - bound if higher_is_better else bound - float_value
    return None if slack < 0 or float_value == 0 else 100.0 * slack / abs(float_value)


def quantize_within(
    model: onnx.ModelProto,
    batches: Batches,
    config: QuantizeConfig,
    losses: Losses,
    *,
    allowed_percent: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> Quantized:
    """Quantize so that no task loses too much, with as little float as a greedy choice needs.

    Args:
        model: float network.
        batches: the calibration images, from the start at each call.
        config: where to start; `max_drop_percent` holds for tasks that `allowed_percent` does not name.
        losses: for a quantized network, how much worse each task is than in float, in percent (negative: better);
            judged on data that is not used to report.
        allowed_percent: what a task may lose, as `allowed_loss_percent` tells from its floor.
        progress: shows one bar.
    """
    allowed = dict(allowed_percent or {})
    tasks = [value.name for value in model.graph.output]
    attempts: list[Attempt] = []
    current: QuantizeConfig | None = config
    quantized, made = model, config
    with (progress or Silent()).task("quantize", 2 * len(tasks) + 1) as bar:
        while current is not None:
            made, quantized = current, quantize_onnx(model, batches(), current)
            found = _checked(losses(quantized), tasks)
            excess = {task: loss - allowed.get(task, config.max_drop_percent) for task, loss in found.items()}
            attempts.append(Attempt(made.float_heads, made.float_branches, found, excess))
            bar.advance()
            current = _relieved(made, excess)
    return Quantized(quantized, made, tuple(attempts))


def _checked(losses: Mapping[str, float], tasks: list[str]) -> dict[str, float]:
    unknown = [task for task in losses if task not in tasks]
    if unknown:
        raise JobError(f"losses of {tasks}", received=str(unknown), where="quantize")
    if any(math.isnan(value) for value in losses.values()):
        raise InternalError(f"a loss of a quantized network is not a number: {dict(losses)}")
    return dict(losses)


def _relieved(config: QuantizeConfig, excess: Mapping[str, float]) -> QuantizeConfig | None:
    """The settings with the most damaged head one step further in float; None when there is nothing left to give."""
    for task in sorted(excess, key=lambda name: -excess[name]):
        if excess[task] <= 0 or task in config.float_branches:
            continue
        if task in config.float_heads:
            heads = tuple(name for name in config.float_heads if name != task)
            return replace(config, float_heads=heads, float_branches=(*config.float_branches, task))
        return replace(config, float_heads=(*config.float_heads, task))
    return None
