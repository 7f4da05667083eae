"""Candidates from candidates: for every budget, children of the networks that the preferences choose so far.

The search of a user who asks for many preferences at once: parents are the arm's answers on the select split, children
cross two of them and change a choice or two, and are then grown or shrunk until they use their budget.

Shape letters: N = networks, C = choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from mtnas.base.seeds import generator
from mtnas.search.strategies.operators import blocks, crossover, mutate, option_counts, ordered_choices
from mtnas.space.arch import Arch
from mtnas.space.space import Space
from tools.bench.supernets.choosing import Weights, led_to

#: how far below a budget a network may lie to stand for it
BELOW = 0.85
TRIES = 200

Share = Callable[[Arch], float]


class Pool:
    """The networks of an arm that have been scored, and which of them the preferences choose.

    Args:
        share: a network's cost as a share of the full one.
        losses: scores a network on the select split; lower is better.
    """

    def __init__(self, share: Share, losses: Callable[[Arch], Mapping[str, float]]) -> None:
        self.share, self.losses = share, losses
        self.known: dict[Arch, tuple[float, Mapping[str, float]]] = {}

    def add(self, archs: Iterable[Arch]) -> None:
        for arch in archs:
            self.known[arch] = self.share(arch), self.losses(arch)

    def chosen(self, preferences: Sequence[Weights], budget: float) -> list[Arch]:
        """The different networks that the preferences lead to; none where nothing keeps the budget."""
        archs, macs = list(self.known), [share for share, _ in self.known.values()]
        losses = [found for _, found in self.known.values()]
        return list(dict.fromkeys(archs[place] for place in led_to(macs, losses, preferences, budget)))


def evolve(
    pool: Pool, space: Space, budgets: Sequence[float], preferences: Sequence[Weights], rounds: int, children: int
) -> None:
    """Let `children` networks be born for every budget in each of some rounds; the same draws for every seed."""
    breeder = Breeder(space, pool.share)
    for _ in range(rounds):
        for budget in budgets:
            parents = pool.chosen(preferences, budget)
            if parents:
                pool.add(breeder.children(parents, pool.known, budget, children))


class Breeder:
    """Makes children within a budget, in a space, by a cost."""

    def __init__(self, space: Space, share: Share) -> None:
        self.space, self.share = space, share
        self.rng = generator(0, "children")
        self.counts_C, self.ordered_C, self.block_C = option_counts(space), ordered_choices(space), blocks(space)

    def children(self, parents: Sequence[Arch], known: Iterable[Arch], budget: float, count: int) -> list[Arch]:
        """Up to `count` networks that are not known; fewer where there are no more of them nearby."""
        genes_NC = self.space.encode(parents)
        found: dict[Arch, None] = {}
        for _ in range(TRIES * count):
            if len(found) == count:
                break
            first, second = self.rng.integers(0, len(parents), size=2)
            mixed_1C = crossover(genes_NC[[first]], genes_NC[[second]], self.block_C, self.rng)
            child = self._fitted(mutate(mixed_1C, self.counts_C, self.ordered_C, self.rng)[0], budget)
            if child is not None and child not in known:
                found[child] = None
        return list(found)

    def _fitted(self, genes_C: np.ndarray, budget: float) -> Arch | None:
        """The network after random steps of single choices towards the budget; None where they pass it by."""
        direction = 0
        while True:
            arch = self.space.decode(genes_C[None])[0]
            cost = self.share(arch)
            step = int(cost < BELOW * budget) - int(cost > budget)
            if step == 0:
                return arch
            last_C = self.counts_C - 1 if step > 0 else np.zeros_like(self.counts_C)
            free = np.flatnonzero(self.ordered_C & (genes_C != last_C))
            if step == -direction or not len(free):
                return None
            genes_C[self.rng.choice(free)] += step
            direction = step
