"""A cost of a network from its features, with an interval that is calibrated and an error that was held out.

Fitted on measured networks; features and shape are chosen by cross-validation (`choose`); the interval is
cross-conformal: a quantile of the relative errors that cross-validation made on networks it had not seen (Vovk, 2015,
"Cross-conformal predictors"), each divided by the error that is usual at its size (Lei et al., 2018, "Distribution-Free
Predictive Inference for Regression", section 5.2). Its coverage is approximate, and checked on the held-out networks.
Shape letters: N = networks, F = features, R = repeats of cross-validation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.quantity import Predicted
from mtnas.base.seeds import derive_seed, generator
from mtnas.measure.choose import FOLDS, choose, relative_error
from mtnas.measure.fitting import candidates
from mtnas.measure.held_out import NOTHING_HELD_OUT, HeldOut, held_out_errors
from mtnas.measure.learned_steps import Columns
from mtnas.measure.models import Stack

__all__ = ["CostPredictor", "HeldOut", "LatencyPredictor", "conformal", "fit", "held_out_errors"]

SCHEMA = "latency-predictor/1"
# Ten held-out networks of like size leave a rank correlation uncertain by about 0.1: 0.8 is what surely is not good.
LEAST_HELD_OUT, LEAST_SPEARMAN, MOST_ERROR_PERCENT, LEAST_COVERAGE_PERCENT = 5, 0.8, 10.0, 60.0
#: How much the usual error may depend on size: from not at all to a quarter of the error at four times the size.
_MOST_SLOPE = 1.0


@dataclass(frozen=True)
class Width:
    """Relative half-width of intervals: `share` at the size `centre`, and `(size / centre) ** slope` times that."""

    share: float
    slope: float = 0.0
    centre: float = 1.0

    def at(self, values_N: np.ndarray) -> np.ndarray:
        return self.share * self.usual(values_N)

    def usual(self, values_N: np.ndarray) -> np.ndarray:
        """The usual error at these sizes, as a multiple of that at the centre; sizes far off count as a factor four."""
        ratio_N = np.clip(np.asarray(values_N) / self.centre, 0.25, 4.0)
        return np.asarray(ratio_N**self.slope)


@dataclass(frozen=True)
class CostPredictor:
    """A fitted predictor of latency, memory or energy.

    Args:
        kind: the shape that cross-validation chose.
        stack: the fitted numbers.
        interval: relative half-width at the middle size; a prediction p spans p / (1 + h) to p * (1 + h), h by `width`.
        coverage: share of networks whose cost the interval should contain.
        cross_validated_percent: mean relative error of the chosen shape over the folds.
        held_out: errors on networks it never saw.
        unit: of the predicted cost.
        columns: the features it reads, and the width steps it learned; everything when None.
        features: how many features a network has.
        slope, centre: see `Width`.
        scores: cross-validated error in percent of everything that was compared.
    """

    kind: str
    stack: Stack
    interval: float
    coverage: float
    cross_validated_percent: float
    held_out: HeldOut
    unit: str = "ms"
    columns: Columns | None = None
    features: int = 0
    slope: float = 0.0
    centre: float = 1.0
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def width(self) -> Width:
        return Width(self.interval, self.slope, self.centre)

    def predict(self, features_NF: np.ndarray) -> list[Predicted]:
        """The cost of each row."""
        values_N = self.values(features_NF)
        spans = zip(values_N, self.width.at(values_N))
        return [Predicted(float(v), float(v / (1 + h)), float(v * (1 + h)), self.unit, self.coverage) for v, h in spans]

    def values(self, features_NF: np.ndarray) -> np.ndarray:
        """The cost of each row, without intervals."""
        features_NF = np.atleast_2d(np.asarray(features_NF, dtype=float))
        wanted = self.features or len(self.stack.base.weights_F)
        if features_NF.shape[1] != wanted:
            raise JobError(
                f"{wanted} features, as this predictor was fitted on",
                received=str(features_NF.shape[1]),
                where="latency predictor",
                cure="the profile belongs to another network: profile this one",
            )
        chosen_NF = features_NF if self.columns is None else features_NF[:, list(self.columns.index)]
        return self.stack.predict(chosen_NF)

    @property
    def doubt(self) -> str:
        """Why this predictor must not steer a search; empty when it may."""
        found, among = self.held_out, "on held-out networks"
        if found.count < LEAST_HELD_OUT:
            return f"only {found.count} held-out networks, at least {LEAST_HELD_OUT} are needed to know its error"
        if not found.spearman >= LEAST_SPEARMAN:
            return f"rank correlation {found.spearman:.2f} {among}, below {LEAST_SPEARMAN}"
        if found.median_error_percent > MOST_ERROR_PERCENT:
            return f"median error {found.median_error_percent:.1f} % {among}, above {MOST_ERROR_PERCENT:g} %"
        if found.coverage_percent < LEAST_COVERAGE_PERCENT:
            return f"intervals hold {found.coverage_percent:.0f} % {among}, {100 * self.coverage:.0f} % was promised"
        return ""

    @property
    def trustworthy(self) -> bool:
        return not self.doubt

    def to_json(self) -> dict[str, Any]:
        columns = self.columns
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "unit": self.unit,
            "features": self.features or len(self.stack.base.weights_F),
            "columns": None if columns is None else {"name": columns.name, "index": list(columns.index)},
            "steps": {} if columns is None else dict(columns.steps),
            "stack": self.stack.to_json(),
            "interval": self.interval,
            "slope": self.slope,
            "centre": self.centre,
            "coverage": self.coverage,
            "cross_validated_percent": self.cross_validated_percent,
            "scores": dict(self.scores),
            "held_out": self.held_out.to_json(),
            "trustworthy": self.trustworthy,
            "doubt": self.doubt,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> CostPredictor:
        if data.get("schema") != SCHEMA:
            raise CheckpointError(
                f"schema {SCHEMA!r}", received=repr(data.get("schema")), where="latency predictor", cure="profile again"
            )
        columns = data.get("columns")
        return CostPredictor(
            data["kind"],
            Stack.from_json(data["stack"]),
            data["interval"],
            data["coverage"],
            data["cross_validated_percent"],
            HeldOut.from_json(data["held_out"]),
            unit=data.get("unit", "ms"),
            columns=None if columns is None else Columns(columns["name"], tuple(columns["index"]), data["steps"]),
            features=data.get("features", 0),
            slope=data.get("slope", 0.0),
            centre=data.get("centre", 1.0),
            scores=data.get("scores", {}),
        )


LatencyPredictor = CostPredictor


def fit(
    features_NF: np.ndarray,
    measured_N: np.ndarray,
    seed: int,
    *,
    held_out: Sequence[int] | None = None,
    coverage: float = 0.9,
    names: Sequence[str] = (),
    unit: str = "ms",
) -> CostPredictor:
    """Choose features and a shape, fit it, calibrate its interval, measure its error.

    Args:
        features_NF: non-negative numbers that describe the networks.
        measured_N: measured cost of each.
        seed: folds, and the held-out part when it is not given.
        held_out: rows kept away from fit and choice; a random quarter when None.
        coverage: share of networks whose cost the interval should contain.
        names: of the features, as `ElasticGraph.feature_names`; without, all of them are read.
        unit: of the cost.
    """
    features_NF, measured_N = np.asarray(features_NF, dtype=float), np.asarray(measured_N, dtype=float)
    away = np.zeros(len(measured_N), dtype=bool)
    away[_quarter(len(measured_N), seed) if held_out is None else list(held_out)] = True
    _check(features_NF, measured_N, away)
    train_NF, train_N = features_NF[~away], measured_N[~away]
    chosen = choose(train_NF, train_N, seed, names)
    index = list(chosen.columns.index)
    stack = candidates()[chosen.kind](train_NF[:, index], train_N, derive_seed(seed, "measure", "fit") % 2**32)
    width = calibrate(chosen.unseen_RN, train_N, coverage)
    predictor = CostPredictor(
        chosen.kind,
        stack,
        width.share,
        coverage,
        100.0 * relative_error(chosen.unseen_RN, train_N),
        NOTHING_HELD_OUT,
        unit=unit,
        columns=chosen.columns,
        features=features_NF.shape[1],
        slope=width.slope,
        centre=width.centre,
        scores=chosen.scores,
    )
    if not away.any():
        return predictor
    found = held_out_errors(predictor.predict(features_NF[away]), measured_N[away])
    return CostPredictor(**{**vars(predictor), "held_out": found})


def calibrate(unseen_RN: np.ndarray, measured_N: np.ndarray, coverage: float) -> Width:
    """The width of intervals from predictions of unseen networks: first how errors depend on size, then how large."""
    ratio_RN = measured_N / np.atleast_2d(unseen_RN)
    errors_RN = np.maximum(ratio_RN, 1.0 / ratio_RN) - 1.0
    sizes_N = np.median(np.atleast_2d(unseen_RN), axis=0)
    centre = float(np.exp(np.mean(np.log(sizes_N))))
    width = Width(1.0, _slope(sizes_N / centre, errors_RN.mean(axis=0)), centre)
    return Width(_quantile(errors_RN / width.usual(unseen_RN), coverage), width.slope, centre)


def _slope(sizes_N: np.ndarray, errors_N: np.ndarray) -> float:
    """Exponent with which errors grow with size; pulled towards zero as far as the data leave it open."""
    x_N, y_N = np.log(sizes_N), np.log(np.maximum(errors_N, 1e-4))
    spread = float((x_N**2).sum())
    if len(x_N) < 20 or spread < 1e-9:
        return 0.0
    slope = float(x_N @ (y_N - y_N.mean())) / spread
    noise = float(np.var(y_N - y_N.mean() - slope * x_N)) / spread
    return float(np.clip(slope * max(0.0, 1.0 - noise / max(slope**2, 1e-12)), -_MOST_SLOPE, _MOST_SLOPE))


def conformal(unseen_RN: np.ndarray, measured_N: np.ndarray, coverage: float) -> float:
    """Relative half-width whose interval holds a new network with probability `coverage`, if it is like these.

    With fewer than coverage / (1 - coverage) networks no finite width can promise that; the largest error stands in.
    """
    ratio_RN = measured_N / np.atleast_2d(unseen_RN)
    return _quantile(np.maximum(ratio_RN, 1.0 / ratio_RN) - 1.0, coverage)


def _quantile(errors_RN: np.ndarray, coverage: float) -> float:
    repeats, count = errors_RN.shape
    rank = min(math.ceil((count + 1) * coverage), count)
    return float(np.sort(errors_RN, axis=None)[rank * repeats - 1])


def _quarter(count: int, seed: int) -> np.ndarray:
    return generator(seed, "measure", "held out").permutation(count)[: count // 4]


def _check(features_NF: np.ndarray, measured_N: np.ndarray, away_N: np.ndarray) -> None:
    if features_NF.ndim != 2 or len(features_NF) != len(measured_N):
        raise JobError(f"one row of features for each of {len(measured_N)} costs", received=str(features_NF.shape))
    if (~away_N).sum() < FOLDS:
        raise JobError(
            f"at least {FOLDS} measured networks to fit on",
            received=str(int((~away_N).sum())),
            where="device.samples",
            cure="raise device.samples, or give the space more choices",
        )
    if not np.isfinite(features_NF).all() or not np.isfinite(measured_N).all() or (measured_N <= 0).any():
        raise JobError("finite features and costs above zero", where="latency predictor")
