"""When to stop measuring: a learning curve, and what more networks would gain.

Cross-validated errors of fits on parts of the measured networks follow error^2 = floor^2 + slope / networks: what noise
and missing features leave, and what too few networks cost. Shape letter: N = networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtnas.base.seeds import generator
from mtnas.measure.choose import make_folds, relative_error
from mtnas.measure.config import MeasureConfig
from mtnas.measure.fitting import SIMPLEST, candidates
from mtnas.measure.learned_steps import alternatives

#: With fewer networks a cross-validated error says too little to stop on.
LEAST_NETWORKS = 30
_SHARES = (0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Learning:
    """Error against the number of networks that a fit has seen.

    Args:
        networks: numbers of networks, ascending; the last is that of the whole cross-validation.
        errors_percent: mean relative error at each.
        reason: why measuring stopped; empty while it goes on.
    """

    networks: tuple[int, ...]
    errors_percent: tuple[float, ...]
    reason: str = ""

    def error_percent(self, networks: float) -> float:
        """The error that the curve promises from this many networks."""
        design = np.column_stack([np.ones(len(self.networks)), 1.0 / np.asarray(self.networks, dtype=float)])
        squares = np.asarray(self.errors_percent) ** 2
        floor, slope = np.linalg.lstsq(design, squares, rcond=None)[0]
        if slope < 0:
            floor, slope = float(squares[-1]), 0.0
        elif floor < 0:
            floor, slope = 0.0, float((squares * self.networks).mean())
        return float(np.sqrt(floor + slope / networks))

    def gain_percent(self, more: int) -> float:
        """Points that `more` networks would take off the error."""
        last = self.networks[-1]
        return max(0.0, self.error_percent(last) - self.error_percent(last + more))

    def sentence(self, more: int) -> str:
        """Such as `good enough: error 1.9 % from 96 networks; 32 more would take off 0.1`."""
        error = f"cross-validated error {self.errors_percent[-1]:.2f} % from {self.networks[-1]} networks"
        gain = f"; {more} more would take off {self.gain_percent(more):.2f} points" if more > 0 else ""
        return f"{self.reason + ': ' if self.reason else ''}{error}{gain}"

    def to_json(self, more: int) -> dict[str, Any]:
        return {
            "networks": list(self.networks),
            "errors_percent": list(self.errors_percent),
            "reason": self.reason,
            "more": more,
            "gain_percent": self.gain_percent(more),
            "sentence": self.sentence(more),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Learning:
        return Learning(tuple(data["networks"]), tuple(data["errors_percent"]), data["reason"])


def learning_curve(features_NF: np.ndarray, cost_N: np.ndarray, seed: int, names: Sequence[str] = ()) -> Learning:
    """Errors of fits on growing parts of these networks, with the simplest shape."""
    index = _quick_columns(names, features_NF.shape[1])
    rows_NF, fitter = features_NF[:, index], candidates()[SIMPLEST]
    folds_RN = make_folds(len(cost_N), seed)
    sizes, errors = [], []
    for share in _SHARES:
        unseen_RN, seen = np.empty((len(folds_RN), len(cost_N))), []
        for repeat, fold_N in enumerate(folds_RN):
            order = generator(seed, "measure", "curve", repeat).permutation(len(cost_N))
            for fold in np.unique(fold_N):
                outside = [i for i in order if fold_N[i] != fold]
                part = outside[: max(4, round(share * len(outside)))]
                stack = fitter(rows_NF[part], cost_N[part], 0)
                unseen_RN[repeat, fold_N == fold] = stack.predict(rows_NF[fold_N == fold])
                seen.append(len(part))
        sizes.append(round(float(np.mean(seen))))
        errors.append(100.0 * relative_error(unseen_RN, cost_N))
    return Learning(tuple(sizes), tuple(errors))


def _quick_columns(names: Sequence[str], count: int) -> list[int]:
    """The columns of step 16 where there are such; a curve needs no better."""
    table = {columns.name: columns.index for columns in alternatives(names, count)}
    return list(table.get("step 16", next(iter(table.values()))))


def why_stop(learning: Learning, measured: int, elapsed_s: float, config: MeasureConfig) -> str:
    """The reason to stop measuring, or an empty string.

    Args:
        learning: of the networks measured so far.
        measured: how many those are, held-out ones too.
        elapsed_s: since this call began.
        config: its `samples`, `target_percent` and `time_limit_s` decide.
    """
    if measured >= config.samples:
        return "as many as asked"
    if 0 < config.time_limit_s <= elapsed_s:
        return "time is up"
    enough = learning.networks[-1] >= LEAST_NETWORKS * 0.8 and learning.errors_percent[-1] <= config.target_percent
    return "good enough" if enough else ""
