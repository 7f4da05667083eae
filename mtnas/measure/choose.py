"""Cross-validation: which features and which shape predict networks that a fit has not seen.

Shape letters: N = networks, F = features, R = repeats of cross-validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtnas.base.seeds import derive_seed, generator
from mtnas.measure.fitting import SIMPLEST, Fitter, candidates
from mtnas.measure.learned_steps import Columns, learn

FOLDS, REPEATS = 5, 3
#: A less simple shape must take this share off the error to replace a simpler one.
_WORTH = 0.05


@dataclass(frozen=True)
class Chosen:
    """The result of a choice.

    Args:
        kind: the shape.
        columns: the features it reads.
        unseen_RN: its predictions of networks that were not in the fit.
        scores: cross-validated relative error in percent of everything that was tried.
    """

    kind: str
    columns: Columns
    unseen_RN: np.ndarray
    scores: Mapping[str, float]


def choose(features_NF: np.ndarray, measured_N: np.ndarray, seed: int, names: Sequence[str] = ()) -> Chosen:
    """First the features with the simplest shape, then the linear base, then what is added to the best one."""
    folds_RN = make_folds(len(measured_N), seed)
    table = candidates()
    scores: dict[str, float] = {}

    def unseen(kind: str, index: Sequence[int]) -> np.ndarray:
        rows_NF = features_NF[:, list(index)]
        return np.stack([cross_predict(table[kind], rows_NF, measured_N, fold, seed) for fold in folds_RN])

    def score(index: Sequence[int]) -> float:
        return 100.0 * relative_error(unseen(SIMPLEST, index), measured_N)

    columns = learn(names, features_NF.shape[1], score, scores)

    def best_of(kinds: Sequence[str], best: str, best_RN: np.ndarray) -> tuple[str, np.ndarray]:
        for kind in kinds:
            found_RN = unseen(kind, columns.index)
            scores[kind] = 100.0 * relative_error(found_RN, measured_N)
            if not best or scores[kind] < (1.0 - _WORTH) * 100.0 * relative_error(best_RN, measured_N):
                best, best_RN = kind, found_RN
        return best, best_RN

    base, base_RN = best_of([kind for kind in table if " + " not in kind], "", measured_N)
    kind, unseen_RN = best_of([kind for kind in table if kind.startswith(f"{base} + ")], base, base_RN)
    return Chosen(kind, columns, unseen_RN, scores)


def make_folds(count: int, seed: int) -> list[np.ndarray]:
    """The fold of each network, for every repeat."""
    return [
        generator(seed, "measure", "folds", repeat).permutation(count) % min(FOLDS, count) for repeat in range(REPEATS)
    ]


def cross_predict(
    fitter: Fitter, features_NF: np.ndarray, measured_N: np.ndarray, fold_N: np.ndarray, seed: int
) -> np.ndarray:
    """Each network predicted by a fit on the other folds."""
    unseen_N = np.empty(len(measured_N))
    for fold in np.unique(fold_N):
        inside = fold_N == fold
        stack = fitter(
            features_NF[~inside], measured_N[~inside], derive_seed(seed, "measure", "fold", int(fold)) % 2**32
        )
        unseen_N[inside] = stack.predict(features_NF[inside])
    return unseen_N


def relative_error(predicted_RN: np.ndarray, measured_N: np.ndarray) -> float:
    """Mean relative error."""
    return float(np.mean(np.abs(predicted_RN / measured_N - 1.0)))
