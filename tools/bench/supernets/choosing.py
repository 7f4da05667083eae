"""What a set of scored networks is asked, and which of them a preference and a budget lead to.

Shape letters: N = networks, T = tasks, P = preferences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtnas.search.control import simplex_preferences, sweep_preferences
from mtnas.search.preference import distances_N, regrets_NT
from mtnas.tasks.base import Task

PREFERENCES, STEPS = 20, 9
#: rounding of shares must not put a network beyond its own budget
_EPSILON = 1e-9

Weights = Mapping[str, float]


@dataclass(frozen=True)
class Metrics:
    """The primary metric of each task, and its direction."""

    names: Mapping[str, str]
    higher: Mapping[str, bool]

    @staticmethod
    def of(tasks: Mapping[str, Task]) -> Metrics:
        primary = {name: task.primary for name, task in tasks.items()}
        return Metrics({n: m.name for n, m in primary.items()}, {n: m.higher_is_better for n, m in primary.items()})

    def of_scores(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        return {task: scores[task][name] for task, name in self.names.items() if task in scores}

    def primary(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
        """Scores without the other metrics: what the records of hundreds of networks hold."""
        return {task: {self.names[task]: value} for task, value in self.of_scores(scores).items()}

    def losses(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """The same, turned so that lower is better."""
        return {task: -value if self.higher[task] else value for task, value in self.of_scores(scores).items()}


def fixed_preferences(tasks: Sequence[str]) -> list[Weights]:
    """The set that hypervolumes are of."""
    return list(simplex_preferences(tasks, PREFERENCES))


def sweeps(tasks: Sequence[str]) -> dict[str, list[Weights]]:
    """For each task, from none of the preference to all of it: what ranges and correlations are of."""
    return {task: list(row) for task, row in sweep_preferences(tasks, STEPS).items()}


def all_preferences(tasks: Sequence[str]) -> list[Weights]:
    """Everything that is asked at a budget."""
    return [*fixed_preferences(tasks), *(one for row in sweeps(tasks).values() for one in row)]


def led_to(
    macs: Sequence[float], losses: Sequence[Mapping[str, float]], preferences: Sequence[Weights], budget: float
) -> list[int]:
    """For each preference, the place of the network within the budget that has the best preferred score.

    The score is that of `Front.pick`. No places where nothing fits.
    """
    within = [place for place, share in enumerate(macs) if share <= budget + _EPSILON]
    if not within:
        return []
    tasks = list(losses[0])
    regret_NT = regrets_NT(np.array([[losses[place][task] for task in tasks] for place in within]))
    weight_PT = np.array([[preference[task] for task in tasks] for preference in preferences])
    return [within[int(np.argmin(distances_N(regret_NT, weight_T)))] for weight_T in weight_PT]
