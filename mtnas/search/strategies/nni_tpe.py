"""The TPE tuner of NNI 3.0, in process: no experiment, no web server. Extra `nni`.

NNI's tuners know one number per trial. Objectives are therefore summed after dividing each by its size in the first
trial told (the largest network), and every violation adds `PENALTY` times its size: a single trade-off, not a front.
TPE is taken rather than NNI's evolution tuner because only TPE can be seeded and told trials of others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from mtnas.base.optional import require
from mtnas.search.strategies.base import StrategySettings
from mtnas.search.trial import Trial
from mtnas.space.arch import Arch

PENALTY = 10.0


class NniTpe:
    """One tuner; parameters are options by number."""

    def __init__(self, settings: StrategySettings) -> None:
        self.problem = settings.problem
        self.nni = require("nni", extra="nni", why="the strategy nni_tpe")
        tuner = require("nni.algorithms.hpo.tpe_tuner", extra="nni")
        # NNI logs to standard output, where results of the command line go.
        logging.getLogger("nni").setLevel(logging.ERROR)
        self.tuner = tuner.TpeTuner(
            "minimize", seed=settings.seed % 2**31, tpe_args={"n_startup_jobs": settings.population}
        )
        self.tuner.update_search_space(
            {
                f"choice{position}": {"_type": "choice", "_value": list(range(len(choice.options)))}
                for position, choice in enumerate(self.problem.space.choices)
            }
        )
        self.scale_M: np.ndarray | None = None
        self.asked = 0
        self.running: dict[Arch, list[int]] = {}

    def ask(self, count: int) -> list[Arch]:
        archs: list[Arch] = []
        for _ in range(count):
            try:
                parameters = self.tuner.generate_parameters(self.asked)
            except self.nni.NoMoreTrialError:
                break
            indices_NC = np.array([list(parameters.values())], dtype=np.int64)
            arch = self.problem.space.decode(indices_NC)[0]
            self.running.setdefault(arch, []).append(self.asked)
            archs.append(arch)
            self.asked += 1
        return archs

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            waiting = self.running.get(trial.arch)
            if waiting:
                self.tuner.receive_trial_result(waiting.pop(0), None, self._loss(trial))
            else:
                indices = self.problem.space.encode([trial.arch])[0].tolist()
                parameters = {f"choice{position}": index for position, index in enumerate(indices)}
                self.tuner.import_data([{"parameter": parameters, "value": self._loss(trial)}])

    def _loss(self, trial: Trial) -> float:
        loss_M = self.problem.losses_NM([trial])[0]
        if self.scale_M is None:
            self.scale_M = np.where(loss_M == 0, 1.0, np.abs(loss_M))
        return float((loss_M / self.scale_M).sum() + PENALTY * trial.total_violation)
