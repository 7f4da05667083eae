"""Latency of a network from its features, with an interval that is calibrated and an error that was held out.

Fitted on measured networks; the shape is chosen by cross-validation (`fitting.candidates`); the interval is
cross-conformal: a quantile of the relative errors that cross-validation made on networks it had not seen (Vovk, 2015,
"Cross-conformal predictors"). Its coverage is approximate, and checked on the held-out networks.
Shape letters: N = networks, F = features, R = repeats of cross-validation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.quantity import Predicted
from mtnas.base.seeds import derive_seed, generator
from mtnas.measure.fitting import Fitter, candidates
from mtnas.measure.models import Stack

SCHEMA = "latency-predictor/1"
FOLDS, REPEATS = 5, 3
# Ten held-out networks of like size leave a rank correlation uncertain by about 0.1: 0.8 is what surely is not good.
LEAST_HELD_OUT, LEAST_SPEARMAN, MOST_ERROR_PERCENT, LEAST_COVERAGE_PERCENT = 5, 0.8, 10.0, 60.0


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


@dataclass(frozen=True)
class LatencyPredictor:
    """A fitted predictor.

    Args:
        kind: the shape that cross-validation chose.
        stack: the fitted numbers.
        interval: relative half-width; a prediction p spans p / (1 + interval) to p * (1 + interval).
        coverage: share of networks whose latency the interval should contain.
        cross_validated_percent: mean relative error of the chosen shape over the folds.
        held_out: errors on networks it never saw.
    """

    kind: str
    stack: Stack
    interval: float
    coverage: float
    cross_validated_percent: float
    held_out: HeldOut

    def predict(self, features_NF: np.ndarray) -> list[Predicted]:
        """Latency in ms, one per row."""
        features_NF = np.atleast_2d(np.asarray(features_NF, dtype=float))
        wanted = len(self.stack.base.weights_F)
        if features_NF.shape[1] != wanted:
            raise JobError(
                f"{wanted} features, as this predictor was fitted on",
                received=str(features_NF.shape[1]),
                where="latency predictor",
                cure="the profile belongs to another network: profile this one",
            )
        return [
            Predicted(
                float(ms), float(ms / (1.0 + self.interval)), float(ms * (1.0 + self.interval)), "ms", self.coverage
            )
            for ms in self.stack.predict(features_NF)
        ]

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
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "stack": self.stack.to_json(),
            "interval": self.interval,
            "coverage": self.coverage,
            "cross_validated_percent": self.cross_validated_percent,
            "held_out": self.held_out.to_json(),
            "trustworthy": self.trustworthy,
            "doubt": self.doubt,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LatencyPredictor:
        if data.get("schema") != SCHEMA:
            raise CheckpointError(
                f"schema {SCHEMA!r}", received=repr(data.get("schema")), where="latency predictor", cure="profile again"
            )
        return LatencyPredictor(
            data["kind"],
            Stack.from_json(data["stack"]),
            data["interval"],
            data["coverage"],
            data["cross_validated_percent"],
            HeldOut.from_json(data["held_out"]),
        )


def fit(
    features_NF: np.ndarray,
    ms_N: np.ndarray,
    seed: int,
    *,
    held_out: Sequence[int] | None = None,
    coverage: float = 0.9,
) -> LatencyPredictor:
    """Choose a shape, fit it, calibrate its interval, measure its error.

    Args:
        features_NF: non-negative numbers that describe the networks.
        ms_N: measured latency of each.
        seed: folds, and the held-out part when it is not given.
        held_out: rows kept away from fit and choice; a random quarter when None.
        coverage: share of networks whose latency the interval should contain.
    """
    features_NF, ms_N = np.asarray(features_NF, dtype=float), np.asarray(ms_N, dtype=float)
    away = np.zeros(len(ms_N), dtype=bool)
    away[_quarter(len(ms_N), seed) if held_out is None else list(held_out)] = True
    _check(features_NF, ms_N, away)
    train_NF, train_N = features_NF[~away], ms_N[~away]
    kind, unseen_RN = choose(train_NF, train_N, seed)
    stack = candidates()[kind](train_NF, train_N, derive_seed(seed, "measure", "fit") % 2**32)
    interval = conformal(unseen_RN, train_N, coverage)
    nothing = HeldOut(math.nan, math.nan, math.nan, math.nan, math.nan, 0)
    error = 100.0 * _error(unseen_RN, train_N)
    predictor = LatencyPredictor(kind, stack, interval, coverage, error, nothing)
    if not away.any():
        return predictor
    found = held_out_errors(predictor.predict(features_NF[away]), ms_N[away])
    return LatencyPredictor(kind, stack, interval, coverage, error, found)


def choose(features_NF: np.ndarray, ms_N: np.ndarray, seed: int) -> tuple[str, np.ndarray]:
    """The shape with the smallest cross-validated relative error, and its predictions (R, N) of unseen networks.

    First the linear base, then what is added to the best one. A later (less simple) shape must be better by a
    twentieth to replace an earlier one.
    """
    folds_RN = [
        generator(seed, "measure", "folds", repeat).permutation(len(ms_N)) % min(FOLDS, len(ms_N))
        for repeat in range(REPEATS)
    ]
    table = candidates()

    def best_of(kinds: Sequence[str], best: str, best_RN: np.ndarray) -> tuple[str, np.ndarray]:
        for kind in kinds:
            unseen_RN = np.stack([cross_predict(table[kind], features_NF, ms_N, fold, seed) for fold in folds_RN])
            if not best or _error(unseen_RN, ms_N) < 0.95 * _error(best_RN, ms_N):
                best, best_RN = kind, unseen_RN
        return best, best_RN

    base, base_RN = best_of([kind for kind in table if " + " not in kind], "", ms_N)
    return best_of([kind for kind in table if kind.startswith(f"{base} + ")], base, base_RN)


def cross_predict(
    fitter: Fitter, features_NF: np.ndarray, ms_N: np.ndarray, fold_N: np.ndarray, seed: int
) -> np.ndarray:
    """Each network predicted by a fit on the other folds."""
    unseen_N = np.empty(len(ms_N))
    for fold in np.unique(fold_N):
        inside = fold_N == fold
        stack = fitter(features_NF[~inside], ms_N[~inside], derive_seed(seed, "measure", "fold", int(fold)) % 2**32)
        unseen_N[inside] = stack.predict(features_NF[inside])
    return unseen_N


def conformal(unseen_RN: np.ndarray, ms_N: np.ndarray, coverage: float) -> float:
    """Relative half-width whose interval holds a new network with probability `coverage`, if it is like these.

    With fewer than coverage / (1 - coverage) networks no finite width can promise that; the largest error stands in.
    """
    ratio_RN = ms_N / np.atleast_2d(unseen_RN)
    errors = np.sort(np.maximum(ratio_RN, 1.0 / ratio_RN) - 1.0, axis=None)
    rank = min(math.ceil((len(ms_N) + 1) * coverage), len(ms_N))
    return float(errors[rank * len(ratio_RN) - 1])


def held_out_errors(predicted: Sequence[Predicted], ms_N: np.ndarray) -> HeldOut:
    """What the predictions are worth on these networks."""
    values = np.asarray([p.value for p in predicted])
    errors = 100.0 * np.abs(values / ms_N - 1.0)
    inside = [p.low <= ms <= p.high for p, ms in zip(predicted, ms_N)]
    return HeldOut(
        spearman=spearman(values, ms_N),
        mape_percent=float(errors.mean()),
        median_error_percent=float(np.median(errors)),
        within_10_percent=float(100 * np.mean(errors <= 10.0)),
        coverage_percent=float(100 * np.mean(inside)),
        count=len(ms_N),
    )


def spearman(left_N: np.ndarray, right_N: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank; NaN when one side is constant or there are fewer than two."""
    ranks = [_ranks(np.asarray(side, dtype=float)) for side in (left_N, right_N)]
    if len(ranks[0]) < 2 or any(np.ptp(r) == 0 for r in ranks):
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values_N: np.ndarray) -> np.ndarray:
    _, place_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[place_N]


def _error(predicted_RN: np.ndarray, ms_N: np.ndarray) -> float:
    return float(np.mean(np.abs(predicted_RN / ms_N - 1.0)))


def _quarter(count: int, seed: int) -> np.ndarray:
    return generator(seed, "measure", "held out").permutation(count)[: count // 4]


def _check(features_NF: np.ndarray, ms_N: np.ndarray, away_N: np.ndarray) -> None:
    if features_NF.ndim != 2 or len(features_NF) != len(ms_N):
        raise JobError(f"one row of features for each of {len(ms_N)} latencies", received=str(features_NF.shape))
    if (~away_N).sum() < FOLDS:
        raise JobError(
            f"at least {FOLDS} measured networks to fit on",
            received=str(int((~away_N).sum())),
            where="device.samples",
            cure="raise device.samples, or give the space more choices",
        )
    if not np.isfinite(features_NF).all() or not np.isfinite(ms_N).all() or (ms_N <= 0).any():
        raise JobError("finite features and latencies above zero", where="latency predictor")
