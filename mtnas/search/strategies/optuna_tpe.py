"""Multi-objective tree-structured Parzen estimator (Ozaki et al., 2022) from optuna, with constraints."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from mtnas.search.strategies.base import StrategySettings
from mtnas.search.strategies.optuna_bridge import OptunaStrategy, seed32


class OptunaTpe(OptunaStrategy):
    """Random for the first `population` trials, then from the estimator."""

    def __init__(self, settings: StrategySettings) -> None:
        super().__init__(settings, _sampler)


def _sampler(optuna: ModuleType, settings: StrategySettings, arguments: dict[str, Any]) -> Any:
    return optuna.samplers.TPESampler(seed=seed32(settings.seed), n_startup_trials=settings.population, **arguments)
