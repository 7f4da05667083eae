"""What the optuna strategies share: an in-memory study driven by ask and tell, and constraints in optuna 4.8 and 5.

Optuna 5 takes constraint values through `trial.set_constraint`; 4.8 only through a function given to the sampler.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from mtnas.base.optional import require
from mtnas.search.strategies.base import StrategySettings
from mtnas.search.trial import Trial
from mtnas.space.arch import Arch

VIOLATIONS = "violations"

MakeSampler = Callable[[ModuleType, StrategySettings, dict[str, Any]], Any]


def quiet_optuna() -> ModuleType:
    """Optuna, which tells only warnings."""
    optuna = require("optuna", why="the optuna strategies")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def seed32(seed: int) -> int:
    """Optuna's samplers take 32-bit seeds."""
    return seed % 2**32


class OptunaStrategy:
    """One study; parameters are option indices, so that widths are ordered numbers."""

    def __init__(self, settings: StrategySettings, make_sampler: MakeSampler) -> None:
        self.problem = settings.problem
        optuna = quiet_optuna()
        self.by_trial = hasattr(optuna.trial.Trial, "set_constraint")
        constrained = bool(self.problem.constraints) and not self.by_trial
        arguments = {"constraints_func": _told_violations} if constrained else {}
        self.distributions = {
            choice.name: optuna.distributions.CategoricalDistribution(tuple(range(len(choice.options))))
            if choice.kind == "operator"
            else optuna.distributions.IntDistribution(0, len(choice.options) - 1)
            for choice in self.problem.space.choices
        }
        with warnings.catch_warnings():  # 4.8 calls constraints experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = make_sampler(optuna, settings, arguments)
        directions = ["minimize"] * len(self.problem.objectives)
        self.study = optuna.create_study(directions=directions, sampler=sampler)
        self.running: dict[Arch, list[Any]] = {}

    def ask(self, count: int) -> list[Arch]:
        asked = []
        for _ in range(count):
            running = self.study.ask(self.distributions)
            choices = self.problem.space.choices
            arch = Arch(tuple((c.name, c.options[int(running.params[c.name])]) for c in choices))
            self.running.setdefault(arch, []).append(running)
            asked.append(arch)
        return asked

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            waiting = self.running.get(trial.arch)
            running = waiting.pop(0) if waiting else self._adopt(trial.arch)
            violations = self.problem.violations_NK([trial])[0].tolist()
            if self.by_trial:
                for constraint, violation in zip(self.problem.constraints, violations, strict=True):
                    running.set_constraint(constraint.label, violation)
            else:
                running.set_user_attr(VIOLATIONS, violations)
            self.study.tell(running, self.problem.losses_NM([trial])[0].tolist())

    def _adopt(self, arch: Arch) -> Any:
        """A running optuna trial for an arch that the study did not propose."""
        indices = self.problem.space.encode([arch])[0].tolist()
        self.study.enqueue_trial(dict(zip(self.distributions, indices, strict=True)))
        return self.study.ask(self.distributions)


def _told_violations(trial: Any) -> list[float]:
    return list(trial.user_attrs[VIOLATIONS])
