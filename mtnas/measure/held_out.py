"""What a predictor is worth on networks it has not seen. Shape letter: N = networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mtnas.base.correlation import spearman
from mtnas.base.quantity import Predicted


@dataclass(frozen=True)
class HeldOut:
    """Errors on networks that neither the fit nor the choice of its shape has seen; NaN when there were none."""

    spearman: float
    mape_percent: float
    median_error_percent: float
    within_10_percent: float
    coverage_percent: float
    count: int

    def to_json(self) -> dict[str, float | int | None]:
        return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in asdict(self).items()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> HeldOut:
        known: dict[str, Any] = {key: math.nan if value is None else value for key, value in data.items()}
        return HeldOut(**known)


NOTHING_HELD_OUT = HeldOut(math.nan, math.nan, math.nan, math.nan, math.nan, 0)


def held_out_errors(predicted: Sequence[Predicted], measured_N: np.ndarray) -> HeldOut:
    """What the predictions are worth on these networks."""
    values = np.asarray([p.value for p in predicted])
    errors = 100.0 * np.abs(values / measured_N - 1.0)
    inside = [p.low <= measured <= p.high for p, measured in zip(predicted, measured_N)]
    return HeldOut(
        spearman=spearman(values, measured_N),
        mape_percent=float(errors.mean()),
        median_error_percent=float(np.median(errors)),
        within_10_percent=float(100 * np.mean(errors <= 10.0)),
        coverage_percent=float(100 * np.mean(inside)),
        count=len(measured_N),
    )
