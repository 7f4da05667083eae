"""The gradients of one step, part by part."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mtnas.base.seeds import derive_seed
from mtnas.train.objective import Objective, StepBatch
from mtnas.train.parts import seeded
from mtnas.train.ranks import Ranks


class StepGradients:
    """Runs an objective over the parts of a step.

    Args:
        objective: puts gradients on its module.
        seed: root of what layers and balancing methods draw.
        images: of a step, in all processes.
        count: portions in which each process takes its images.
        ranks: the processes that train together.
    """

    def __init__(self, objective: Objective, seed: int, images: int, count: int, ranks: Ranks) -> None:
        self.objective, self.seed, self.images = objective, seed, images
        self.parts = objective.parts
        self.parts.count, self.parts.ranks = count, ranks
        modules = [objective.module, *objective.beside.values()]
        self.parts.trained = [p for module in modules for p in module.parameters() if p.requires_grad]

    def collect(self, batch: StepBatch) -> dict[str, float]:
        """Add the step's gradients to the module; returns the mean losses per task, and `total`."""
        self.parts.losses = None
        self.parts.seed = derive_seed(self.seed, "balance", batch.step)
        if self.parts.count > 1 and self.objective.balance.weighs_losses:
            self.parts.losses = self.losses(batch)
        means: dict[str, float] = {}
        for part in self._each(batch):
            for name, loss in self.objective.accumulate(part).items():
                means[name] = means.get(name, 0.0) + loss * self.parts.share
        return self._everywhere(means)

    @torch.no_grad()
    def losses(self, batch: StepBatch) -> dict[str, Tensor]:
        """The leading network's losses over the whole step, with the weights as they are now."""
        sums: dict[str, Tensor] = {}
        for part in self._each(batch):
            for name, loss in self.objective.losses(part).items():
                sums[name] = sums.get(name, torch.zeros_like(loss)) + loss * self.parts.share
        return self.parts.ranks.add_scalars(sums)

    def look(self, batch: StepBatch) -> None:
        """Show the balance what the step has changed, if it wants to know."""
        if self.objective.balance.looks_back:
            self.objective.balance.look(self.losses(batch))

    def _each(self, batch: StepBatch) -> Iterator[StepBatch]:
        """The parts in order, each with random numbers of its own."""
        device = batch.image_BCHW.device
        for index, part in enumerate(batch.split(self.parts.count)):
            self.parts.index = index
            self.parts.share = len(part.image_BCHW) / self.images
            place = self.parts.ranks.rank * self.parts.count + index
            names = (batch.step, place) if place else (batch.step,)
            with seeded(derive_seed(self.seed, "step", *names), device):  # for layers such as dropout
                yield part

    def _everywhere(self, means: dict[str, float]) -> dict[str, float]:
        """Summed over all processes; one that is not finite is seen by all of them."""
        if self.parts.ranks.count == 1:
            return means
        sums = self.parts.ranks.add_scalars({name: torch.tensor(value) for name, value in means.items()})
        return {name: float(value) for name, value in sums.items()}
