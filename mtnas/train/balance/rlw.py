"""Random loss weights: a check that a cleverer method must beat.

Source: Lin, Ye, Zhang, Tsang, "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning",
algorithm 2: in each step the weights are softmax(z), z ~ N(0, I). They are multiplied by the number of tasks here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtnas.train.balance.weighted import Weighted


class RandomWeights(Weighted):
    """New weights in every step, drawn from torch's default generator, which the engine seeds by the step."""

    def weigh(self, losses_T: Tensor) -> Tensor:
        return len(self.tasks) * torch.softmax(torch.randn_like(self.weight_T), 0)
