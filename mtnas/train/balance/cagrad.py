"""The mean gradient, moved within a ball towards the task that gains least.

Source: Liu, Liu, Jin, Stone, Liu, "Conflict-Averse Gradient Descent for Multi-task Learning", algorithm 1, with
c = 0.4 as in its experiments: g_0 + c |g_0| g_w / |g_w|, where w on the simplex minimises g_w g_0 + c |g_0| |g_w|.
Multiplied by the number of tasks here, so that c = 0 is the plain sum. Solved by torchjd with cvxpy and clarabel;
without the division by 1 + c^2 that the authors' code offers.
"""

from __future__ import annotations

from torch import Tensor

from mtnas.train.balance.gradient import GradientBalance, torchjd

RADIUS = 0.4


class CaGrad(GradientBalance):
    """Weights are at least one; the sum of the gradients is never left by more than c times its length."""

    def solve(self, gram_PP: Tensor) -> Tensor:
        return len(gram_PP) * torchjd("cagrad").CAGradWeighting(RADIUS)(gram_PP)
