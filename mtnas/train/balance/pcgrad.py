"""Each task's gradient without its parts against the others.

Source: Yu, Kumar, Gupta, Levine, Hausman, Finn, "Gradient Surgery for Multi-Task Learning", algorithm 1: from g_i, for
every j in random order, its component along g_j is taken away where the two point against each other; then the sum.
The order comes from torch's default generator, which the engine seeds by the step. Solved by torchjd.
"""

from __future__ import annotations

from torch import Tensor

from mtnas.train.balance.gradient import GradientBalance, torchjd


class PcGrad(GradientBalance):
    """With two tasks, the step never goes against either gradient; without conflict it is the plain sum."""

    def solve(self, gram_PP: Tensor) -> Tensor:
        return torchjd("pcgrad").PCGradWeighting()(gram_PP)
