"""Which step a latency curve over channels moves in, decided by prediction, not by eye.

A step of s means: kernels work on blocks of s channels, so all widths up to the next multiple of s cost the same. Some
kernels are worse than that and become slow between their blocks; as a network may always be made wider, a width costs
what the cheapest width of at least its size costs (the envelope), and such cliffs become stairs as well.

For each candidate step every width is predicted from the others: by the widths that share its block, else between the
blocks beside it. The step with the smallest error wins; a coarser one that predicts as well (within one standard
error of the difference, or a quarter of the error of no stairs) goes before it: it says the same with fewer levels,
and its edges are edges of the finer one too. Step 1 means that there are no stairs.
The probed widths must not all be multiples of 4, or steps of 1 and 4 could not be told apart.

Shape letters: W = widths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

STEPS = (1, 4, 8, 16, 32)
#: the winning step must predict a width it has not seen this well, or the curve is too noisy to steer a space
MOST_ERROR_PERCENT = 6.0
#: differences of the squared error below this (0.3 % squared) decide nothing
_LEAST_SQUARE = 0.003**2
#: a step whose error is below this share of the error without stairs explains the curve, though a finer one fits noise
_LITTLE = 0.25


@dataclass(frozen=True)
class Stairs:
    """The step of one curve, and why.

    Args:
        step: channels per step; 1 when latency moves evenly.
        error_percent: of every candidate step, the error of predicting a width it has not seen (root mean square).
        rise_percent: the median rise of the envelope over a border between two blocks; None without stairs.
        slope_percent: its median rise for 4 channels inside a block.
        between_percent: what a width that is no multiple of 4 costs more than the next one that is (median).
        edges: the widths at the right edge of a block: the next wider network costs more.
        doubt: why the step must not steer a space; empty when it may.
    """

    step: int
    error_percent: Mapping[int, float]
    rise_percent: float | None
    slope_percent: float | None
    between_percent: float | None
    edges: tuple[int, ...]
    doubt: str = ""

    def to_json(self) -> dict[str, Any]:
        errors = {str(step): error for step, error in self.error_percent.items()}
        return {**asdict(self), "error_percent": errors, "edges": list(self.edges)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Stairs:
        errors = {int(step): error for step, error in data["error_percent"].items()}
        return Stairs(**{**data, "error_percent": errors, "edges": tuple(data["edges"])})


def find_stairs(widths: Sequence[int], ms: Sequence[float], steps: Sequence[int] = STEPS) -> Stairs:
    """The step of a curve: at least eight ascending widths, latencies above zero."""
    widths_W, ms_W = np.asarray(widths), np.asarray(ms, dtype=float)
    log_W = np.log(envelope(ms_W))
    errors = {step: _left_out_errors(widths_W, log_W, step) for step in steps}
    step = _simplest_of_the_best(errors)
    rise, slope = _rises(widths_W, log_W, step)
    shown = {s: 100.0 * math.sqrt(float(np.mean(error**2))) for s, error in errors.items()}
    edges = tuple(int(w) for w in widths_W if w % step == 0) if step > 1 else ()
    return Stairs(step, shown, rise, slope, _between(widths_W, ms_W), edges, _doubt(shown[step], step, rise, slope))


def envelope(ms_W: np.ndarray) -> np.ndarray:
    """The least latency of a network at least as wide; never falls with the width."""
    return np.asarray(np.minimum.accumulate(ms_W[::-1])[::-1])


def blocks(width: int | np.ndarray, step: int) -> Any:
    """The width rounded up to a multiple of the step."""
    return -(-width // step) * step


def _left_out_errors(widths_W: np.ndarray, log_W: np.ndarray, step: int) -> np.ndarray:
    """Prediction error of every inner width from all others, as a difference of logarithms."""
    levels_W = blocks(widths_W, step)
    errors = []
    for place in range(1, len(widths_W) - 1):  # the first and the last have neighbours on one side only
        others = np.arange(len(widths_W)) != place
        known = np.unique(levels_W[others])
        means = np.array([log_W[others & (levels_W == level)].mean() for level in known])
        errors.append(float(np.interp(levels_W[place], known, means) - log_W[place]))
    return np.asarray(errors)


def _simplest_of_the_best(errors: Mapping[int, np.ndarray]) -> int:
    """The coarsest step that predicts about as well as the best one, or leaves little of the misfit of no stairs."""
    squares = {step: error**2 for step, error in errors.items()}
    best = min(squares, key=lambda step: float(squares[step].mean()))
    enough = (_LITTLE * math.sqrt(float(squares[min(squares)].mean()))) ** 2
    good = [best]
    for step, square in squares.items():
        extra = square - squares[best]
        alike = float(extra.mean()) <= _LEAST_SQUARE + float(extra.std(ddof=1)) / math.sqrt(len(extra))
        if alike or (best > 1 and float(square.mean()) <= enough):
            good.append(step)
    return max(good)


def _rises(widths_W: np.ndarray, log_W: np.ndarray, step: int) -> tuple[float | None, float | None]:
    """Median rise over a border and inside a block, in percent between neighbours among the multiples of 4."""
    fourth = widths_W % 4 == 0
    rise = 100.0 * np.expm1(np.diff(log_W[fourth]))
    border = np.diff(blocks(widths_W[fourth], step)) > 0
    over = float(np.median(rise[border])) if step > 4 and border.any() else None
    inside = rise if step <= 4 else rise[~border]
    return over, float(np.median(inside)) if len(inside) else None


def _between(widths_W: np.ndarray, ms_W: np.ndarray) -> float | None:
    """Median extra cost of widths that are no multiple of 4, against the next multiple that was probed."""
    extra = [
        100.0 * (ms_W[i] / ms_W[j] - 1.0)
        for i, width in enumerate(widths_W)
        for j in np.flatnonzero(widths_W == blocks(int(width), 4))
        if width % 4
    ]
    return float(np.median(extra)) if extra else None


def _doubt(error: float, step: int, rise: float | None, slope: float | None) -> str:
    if error > MOST_ERROR_PERCENT:
        return f"even the best step predicts an unseen width only within {error:.1f} %: the machine is too noisy"
    if step > 1 and rise is not None and slope is not None and rise <= slope:
        return f"latency rises no more at borders of {step} channels than between them"
    return ""
