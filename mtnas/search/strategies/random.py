"""Random search: the line that every other strategy has to beat at equal evaluations."""

from __future__ import annotations

from collections.abc import Sequence

from mtnas.base.seeds import generator
from mtnas.search.strategies.base import StrategySettings
from mtnas.search.strategies.operators import spread_sample, uniform_sample
from mtnas.search.trial import Trial
from mtnas.space.arch import Arch


class UniformRandom:
    """Every option equally likely, choices independent."""

    def __init__(self, settings: StrategySettings) -> None:
        self.space = settings.problem.space
        self.rng = generator(settings.seed, "random")

    def ask(self, count: int) -> list[Arch]:
        return self.space.decode(uniform_sample(self.space, count, self.rng))

    def tell(self, trials: Sequence[Trial]) -> None:
        return None


class SpreadRandom:
    """Random archs from narrow to wide: what `nsga2` starts from, without the evolution."""

    def __init__(self, settings: StrategySettings) -> None:
        self.space = settings.problem.space
        self.population = settings.population
        self.rng = generator(settings.seed, "random_spread")
        self.queue: list[Arch] = []

    def ask(self, count: int) -> list[Arch]:
        if not self.queue:
            self.queue = self.space.decode(spread_sample(self.space, self.population, self.rng))
        asked, self.queue = self.queue[:count], self.queue[count:]
        return asked

    def tell(self, trials: Sequence[Trial]) -> None:
        return None
