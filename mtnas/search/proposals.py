"""Proposals that are always new: the extremes first, then the strategy, then neighbours of what is known."""

from __future__ import annotations

import math

from mtnas.base.seeds import generator
from mtnas.search.strategies.base import Strategy
from mtnas.search.trial import Trial
from mtnas.space.arch import Arch
from mtnas.space.space import Space


class Proposals:
    """Hands out archs that were never evaluated before.

    A known arch is answered from memory and the strategy is asked again; after `max_repeats` known archs in a row a
    random unseen neighbour of an evaluated arch is taken. `next` is `None` only when the whole space is evaluated.
    """

    def __init__(self, space: Space, strategy: Strategy, max_repeats: int, seed: int) -> None:
        self.space = space
        self.strategy = strategy
        self.max_repeats = max_repeats
        self.rng = generator(seed, "search", "fill")
        self.known: dict[Arch, Trial] = {}
        self.start = list(dict.fromkeys([space.largest, space.smallest]))
        self.size = math.prod(len(choice.options) for choice in space.choices)

    def next(self) -> tuple[Arch, str] | None:
        """A new arch and where it comes from: `start`, `ask` or `fill`."""
        if len(self.known) >= self.size:
            return None
        if self.start:
            return self.start.pop(0), "start"
        for _ in range(self.max_repeats):
            asked = self.strategy.ask(1)
            if not asked:
                break
            if asked[0] not in self.known:
                return asked[0], "ask"
            self.strategy.tell([self.known[asked[0]]])
        return self._unseen_neighbour(), "fill"

    def tell(self, trial: Trial) -> None:
        self.known[trial.arch] = trial
        self.strategy.tell([trial])

    def _unseen_neighbour(self) -> Arch:
        """One step away from an evaluated arch; exists while the space is not exhausted, as steps connect all archs."""
        archs = list(self.known)
        for position in self.rng.permutation(len(archs)):
            unseen = [arch for arch in self.space.neighbours(archs[position]) if arch not in self.known]
            if unseen:
                return unseen[int(self.rng.integers(len(unseen)))]
        raise AssertionError("a space that is not exhausted has an unseen neighbour")
