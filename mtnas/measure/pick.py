"""Which sub-networks to measure, and which of them the predictor never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mtnas.base.seeds import generator


@dataclass(frozen=True)
class Pick:
    """One network of a pool.

    Args:
        index: its place in the pool.
        why: `smallest`, `largest`, `spread` (one from each stratum of size) or `random`.
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


def _spread(sizes: np.ndarray, count: int, taken: dict[int, str], rng: np.random.Generator) -> list[int]:
    """One network nearest to a random size inside each of `count` equal strata between smallest and largest."""
    edges = np.linspace(sizes.min(), sizes.max(), count + 1)
    found: list[int] = []
    for low, high in pairwise(edges):
        order = np.argsort(np.abs(sizes - rng.uniform(low, high)), kind="stable")
        found.append(next(int(i) for i in order if int(i) not in taken and int(i) not in found))
    return found
