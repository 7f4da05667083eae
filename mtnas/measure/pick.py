"""Which sub-networks to measure, and which of them the predictor never sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mtnas.base.seeds import generator
from mtnas.measure.active import choose_next


@dataclass(frozen=True)
class Pick:
    """One network of a pool.

    Args:
        index: its place in the pool.
        why: `smallest`, `largest`, `spread` (one from each stratum of size), `random`, or `active` (what the predictor
            was least sure about).
        held_out: whether it is kept for the predictor's error.
    """

    index: int
    why: str
    held_out: bool


def pick(sizes_N: Sequence[float] | np.ndarray, count: int, holdout: float, seed: int) -> tuple[Pick, ...]:
    """Smallest, largest, half of the rest spread evenly over the sizes, the other half at random.

    Random members of a pool crowd around the middle size; the spread half makes sure that both ends are known. The
    held-out ones are drawn from spread and random alike, never the two extremes: the fit must reach as far as the
    space does. The order is the order of measuring.

    Args:
        sizes_N: any size of each network, such as its multiply-adds.
        count: how many to measure; at most the pool.
        holdout: share that is held out.
        seed: of the drawing.
    """
    sizes, rng = np.asarray(sizes_N, dtype=float), generator(seed, "measure", "pick")
    count = min(count, len(sizes))
    chosen = {int(np.argmax(sizes)): "largest"}
    if count > 1 and len(sizes) > 1:
        chosen.setdefault(int(np.argmin(sizes)), "smallest")
    for index in _spread(sizes, (count - len(chosen)) // 2, chosen, rng):
        chosen[index] = "spread"
    free = [i for i in rng.permutation(len(sizes)).tolist() if i not in chosen]
    for index in free[: count - len(chosen)]:
        chosen[index] = "random"
    middle = [index for index, why in chosen.items() if why in {"spread", "random"}]
    away = set(rng.permutation(middle)[: round(holdout * len(middle))].tolist())
    return tuple(Pick(index, why, index in away) for index, why in chosen.items())


#: Smaller profiles are picked at once: there is too little to choose from what was learned.
LEAST_ACTIVE = 64


def first_picks(picks: Sequence[Pick]) -> tuple[Pick, ...]:
    """The picks to measure before anything is known: all of a small profile, else all but half of the training ones.

    All held-out networks are among them, so that what is learned can never choose them.
    """
    if len(picks) < LEAST_ACTIVE:
        return tuple(picks)
    train = [p for p in picks if not p.held_out]
    first = {p.index for p in train[: len(train) // 2]}
    return tuple(p for p in picks if p.held_out or p.index in first)


def next_picks(
    features_NF: np.ndarray, cost_N: Mapping[int, float], picks: Sequence[Pick], count: int, seed: int
) -> tuple[Pick, ...]:
    """The next batch: half of it where the predictor is least sure, the other half at random.

    Args:
        features_NF: of the pool.
        cost_N: measured cost by place in the pool.
        picks: everything picked so far; only those that are not held out are learned from.
        count: size of the batch.
        seed: of the random half.
    """
    taken = {p.index for p in picks}
    known = [p.index for p in picks if not p.held_out]
    free = [i for i in range(len(features_NF)) if i not in taken]
    unsure = choose_next(features_NF, known, np.asarray([cost_N[i] for i in known]), free, (count + 1) // 2)
    rng = generator(seed, "measure", "next", len(picks))
    rest = [int(i) for i in rng.permutation(free) if int(i) not in set(unsure)][: count - len(unsure)]
    return tuple(Pick(i, "active", False) for i in unsure) + tuple(Pick(i, "random", False) for i in rest)


def _spread(sizes: np.ndarray, count: int, taken: dict[int, str], rng: np.random.Generator) -> list[int]:
    """One network nearest to a random size inside each of `count` equal strata between smallest and largest."""
    edges = np.linspace(sizes.min(), sizes.max(), count + 1)
    found: list[int] = []
    for low, high in pairwise(edges):
        order = np.argsort(np.abs(sizes - rng.uniform(low, high)), kind="stable")
        found.append(next(int(i) for i in order if int(i) not in taken and int(i) not in found))
    return found
