"""The seam between the loop and whoever proposes archs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mtnas.search.problem import Problem
from mtnas.search.trial import Trial
from mtnas.space.arch import Arch


@dataclass(frozen=True)
class StrategySettings:
    """What every strategy is built from; equal settings give equal proposals."""

    problem: Problem
    population: int
    seed: int


class Strategy(Protocol):
    """Proposes archs and learns from trials; is deterministic given its settings and what it was told.

    The loop tells every asked arch exactly once before it asks again, in the order of asking. A strategy may also be
    told trials that it never asked for, and must learn from them; it may propose archs that it already knows.
    """

    def __init__(self, settings: StrategySettings) -> None: ...

    def ask(self, count: int) -> list[Arch]:
        """Between one and `count` archs; none when nothing is left to propose."""
        ...

    def tell(self, trials: Sequence[Trial]) -> None: ...
