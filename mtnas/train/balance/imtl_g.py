"""The direction with equal projections on the gradients of all tasks.

Source: Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial Multi-task Learning": IMTL-G.
Weights may be negative; they add up to the number of tasks (to 1 in the paper). Solved by torchjd.
"""

from __future__ import annotations

from torch import Tensor

from mtnas.train.balance.gradient import GradientBalance, torchjd


class ImtlG(GradientBalance):
    """The lengths of the gradients do not change the direction."""

    def solve(self, gram_PP: Tensor) -> Tensor:
        return len(gram_PP) * torchjd("imtl_g").IMTLGWeighting()(gram_PP)
