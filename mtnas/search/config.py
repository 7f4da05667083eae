"""What a job says about its search."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name
from mtnas.search.strategies.table import STRATEGIES


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How long to search, and with which strategy."""

    strategy: str = "nsga2"
    """Who proposes networks: a row of the strategies table."""
    trials: int = 80
    """Networks to evaluate; the largest and the smallest are the first two."""
    population: int = 16
    """Size of a generation (evolution), or number of random trials before the model (TPE)."""
    random_trials: int | None = None
    """Networks of the random-search line; as many as `trials` when not given, 0 for none."""
    measure_front: int = 12
    """How many networks of the found front are measured on the device."""
    max_repeats: int = 50
    """How often in a row a strategy may propose known networks before a neighbour is taken instead."""

    def __post_init__(self) -> None:
        check_name(self.strategy, STRATEGIES, "search strategy", "search.strategy")
        lowest = {"trials": 2, "population": 2, "measure_front": 1, "max_repeats": 1}
        for name, minimum in lowest.items():
            if getattr(self, name) < minimum:
                raise JobError(f"at least {minimum}", received=str(getattr(self, name)), where=f"search.{name}")
        if self.random_trials is not None and self.random_trials < 0:
            raise JobError("0 or more", received=str(self.random_trials), where="search.random_trials")

    def random_line(self) -> SearchConfig | None:
        """The configuration of the random-search line, or `None` when the job wants none."""
        trials = self.trials if self.random_trials is None else self.random_trials
        return replace(self, strategy="random", trials=max(2, trials)) if trials else None
