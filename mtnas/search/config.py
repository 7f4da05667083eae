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


#: the name of the default way to search the shared encoder; all others are rows of the strategies table
GREEDY = "greedy"


@dataclass(frozen=True, kw_only=True)
class ConfigureConfig:
    """How `configure` goes from budget and preference to one network."""

    strategy: str = GREEDY
    """Who searches the shared encoder: `greedy` (tens of evaluations), or a row of the strategies table."""
    trials: int = 80
    """Networks that a strategy evaluates; the greedy search needs no such number."""
    population: int = 16
    """Size of a strategy's generation."""
    lazy: bool = True
    """Greedy: try again only the steps that looked best before; without, every step at every network."""
    grow: bool = True
    """Greedy: spend what the last step has saved beyond the budget on the widths that gain most."""
    decoder_levels: tuple[float, ...] = (1.0,)
    """Size of the most preferred task's decoder, 1 being all of it; of several levels, the best network is taken."""

    def __post_init__(self) -> None:
        if self.strategy != GREEDY:
            check_name(self.strategy, {GREEDY: "", **STRATEGIES}, "way to search the encoder", "configure.strategy")
        for name in ("trials", "population"):
            if getattr(self, name) < 2:
                raise JobError("at least 2", received=str(getattr(self, name)), where=f"configure.{name}")
        if not self.decoder_levels or not all(0 <= level <= 1 for level in self.decoder_levels):
            raise JobError("levels from 0 to 1", received=str(self.decoder_levels), where="configure.decoder_levels")
