"""NSGA-II from optuna, with constraints."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from mtnas.search.strategies.base import StrategySettings
from mtnas.search.strategies.optuna_bridge import OptunaStrategy, seed32


class OptunaNsga2(OptunaStrategy):
    """Generations of `population` trials."""

    def __init__(self, settings: StrategySettings) -> None:
        super().__init__(settings, _sampler)


def _sampler(optuna: ModuleType, settings: StrategySettings, arguments: dict[str, Any]) -> Any:
    return optuna.samplers.NSGAIISampler(seed=seed32(settings.seed), population_size=settings.population, **arguments)
