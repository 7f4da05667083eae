"""Which step a latency curve over channels moves in, decided by prediction, not by eye.

Stairs of s channels: latency rises much more from a multiple of s to the next wider width than anywhere else, so the
multiples are the widths that pay (the right edges of the stairs). Some kernels become slow between their blocks; as a
network may always be made wider, a width costs what the cheapest width of at least its size costs (the envelope).

The rises of the envelope's logarithm between neighbouring multiples of 4 are told by two numbers, one for rises over a
border and one for all others, both in units of what the nearest smooth curve rises there. For each candidate step every
rise is predicted from the others; the step with the smallest error wins, if it clearly beats no stairs (one number
for all rises) and its borders are really steeper. Without stairs the step is 4 when widths between multiples of 4
save nothing, else 1.

Shape letters: W = widths, R = rises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

STEPS = (8, 16, 32)
_NONE = 4
#: the rises must be predicted this well, or the curve is too noisy to steer a space
MOST_ERROR_PERCENT = 10.0
#: a rise over a border is at least this many times a rise elsewhere
_STEEPER = 1.5
#: of the saving that an even curve would give, the share that widths between multiples of 4 must show
_EVEN = 0.5


@dataclass(frozen=True)
class Stairs:
    """The step of one curve, and why.

    Args:
        step: channels per step; 4 when latency moves evenly over multiples of 4, 1 when it moves evenly everywhere.
        error_percent: of every candidate step (4: no stairs) the error of predicting a rise it has not seen, as the
            root of the mean square, in percent of latency.
        rise_percent: the median rise of the envelope over a border, for 4 channels; None without stairs.
        slope_percent: the median rise for 4 channels elsewhere.
        between_percent: what a width that is no multiple of 4 costs more than the next one that is (median).
        edges: the widths at the right edge of a stair: the next wider network costs more.
        doubt: why the step must not steer a space; empty when it may.
    """

    step: int
    error_percent: Mapping[int, float]
    rise_percent: float | None
    slope_percent: float
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


def find_stairs(widths: Sequence[int], ms: Sequence[float]) -> Stairs:
    """The step of a curve: ascending widths, all multiples of 4 in their range and some between; latencies above 0."""
    widths_W, ms_W = np.asarray(widths), np.asarray(ms, dtype=float)
    fourth = widths_W % 4 == 0
    starts_R, least_W = widths_W[fourth][:-1], envelope(ms_W)[fourth]
    rises_R, smooth_R = np.diff(np.log(least_W)), np.diff(np.log(smooth_curve(widths_W[fourth], least_W)))
    errors = {step: left_out_errors(rises_R, smooth_R, starts_R % step == 0) for step in (_NONE, *STEPS)}
    step = _clear_winner(errors, rises_R / smooth_R, starts_R)
    shown = {s: 100.0 * math.sqrt(float(np.mean(error**2))) for s, error in errors.items()}
    border = starts_R % step == 0 if step > _NONE else np.zeros(len(starts_R), dtype=bool)
    doubt = ""
    if shown[step] > MOST_ERROR_PERCENT:
        doubt = f"rises are predicted only within {shown[step]:.0f} % of latency: the curve is too noisy"
    if step == _NONE and _even_between(widths_W, ms_W):
        step = 1
    return Stairs(
        step=step,
        error_percent=shown,
        rise_percent=_median_percent(rises_R[border]) if border.any() else None,
        slope_percent=_median_percent(rises_R[~border]),
        between_percent=_between_percent(widths_W, ms_W),
        edges=tuple(int(w) for w in widths_W if step > _NONE and w % step == 0),
        doubt=doubt,
    )


def envelope(ms_W: np.ndarray) -> np.ndarray:
    """The least latency of a network at least as wide; never falls with the width."""
    return np.asarray(np.minimum.accumulate(ms_W[::-1])[::-1])


def smooth_curve(widths_W: np.ndarray, ms_W: np.ndarray) -> np.ndarray:
    """The nearest curve without stairs: a call, work in the width and in its square, none of them negative."""
    from scipy.optimize import nnls

    terms_WT = np.stack([np.ones(len(widths_W)), widths_W, widths_W**2], axis=1) / ms_W[:, None]
    return np.asarray((terms_WT * ms_W[:, None]) @ nnls(terms_WT, np.ones(len(ms_W)))[0])


def left_out_errors(rises_R: np.ndarray, smooth_R: np.ndarray, border_R: np.ndarray) -> np.ndarray:
    """(R,) each rise minus its prediction from all other rises of its class, as a logarithm.

    A class has one steepness: the total of its rises over the total of what a smooth curve rises there.
    """
    errors_R = np.empty(len(rises_R))
    for border in (False, True):
        mine = border_R == border
        rest_R, rest_smooth_R = rises_R[mine].sum() - rises_R[mine], smooth_R[mine].sum() - smooth_R[mine]
        steepness_R = np.divide(rest_R, rest_smooth_R, out=np.zeros_like(rest_R), where=rest_smooth_R > 0)
        errors_R[mine] = rises_R[mine] - steepness_R * smooth_R[mine]
    return errors_R


def _clear_winner(errors: Mapping[int, np.ndarray], steepness_R: np.ndarray, starts_R: np.ndarray) -> int:
    """The step with the smallest error, when that is clearly below the error of no stairs and its borders are steep."""
    best = min(errors, key=lambda step: float((errors[step] ** 2).mean()))
    if best == _NONE:
        return _NONE
    gain_R = errors[_NONE] ** 2 - errors[best] ** 2
    clear = float(gain_R.mean()) > float(gain_R.std(ddof=1)) / math.sqrt(len(gain_R))
    border = starts_R % best == 0
    inside = max(float(np.median(steepness_R[~border])), 0.0)
    return best if clear and float(np.median(steepness_R[border])) > _STEEPER * inside else _NONE


def _even_between(widths_W: np.ndarray, ms_W: np.ndarray) -> bool:
    """Whether widths between multiples of 4 save most of what an even curve would save."""
    shares = []
    for i, low, high in _between(widths_W):
        even = (widths_W[high] - widths_W[i]) / (widths_W[high] - widths_W[low])
        rise = ms_W[high] - ms_W[low]
        if rise > 0:
            shares.append((ms_W[high] - ms_W[i]) / rise / even)
    return bool(shares) and float(np.median(shares)) > _EVEN


def _between_percent(widths_W: np.ndarray, ms_W: np.ndarray) -> float | None:
    extra = [100.0 * (ms_W[i] / ms_W[high] - 1.0) for i, _, high in _between(widths_W)]
    return float(np.median(extra)) if extra else None


def _between(widths_W: np.ndarray) -> list[tuple[int, int, int]]:
    """Places of every width that is no multiple of 4, and of the multiples below and above it."""
    place = {int(width): i for i, width in enumerate(widths_W)}
    inner = [width for width in place if width % 4 and width // 4 * 4 in place and (width // 4 + 1) * 4 in place]
    return [(place[width], place[width // 4 * 4], place[(width // 4 + 1) * 4]) for width in inner]


def _median_percent(rises_R: np.ndarray) -> float:
    return 100.0 * math.expm1(float(np.median(rises_R)))
