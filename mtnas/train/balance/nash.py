"""The step that tasks would agree on in a Nash bargaining game.

Source: Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya, "Multi-Task Learning as a Bargaining Game", claim
3.1: weights a > 0 with G a = 1 / a (entry by entry). They are the minimum of the convex a^T G a / 2 - sum log a, which
Newton's method finds; the library's version solves a series of approximations with ecos, which is under the GPL, and
remembers the last answer outside its state. Weights are scaled to add up to the number of tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtnas.train.balance.gradient import GradientBalance

#: added to the cosines' diagonal: without it, gradients that cancel would have no minimum
RIDGE = 1e-6
STEPS = 100
CLOSE = 1e-12


class NashMtl(GradientBalance):
    """Weights are positive, the step goes along every gradient, and their lengths do not change its direction."""

    def solve(self, gram_PP: Tensor) -> Tensor:
        norm_P = gram_PP.diagonal().sqrt()
        cosine_PP = gram_PP / norm_P[:, None] / norm_P
        weight_P = bargain(cosine_PP + RIDGE * torch.eye(len(norm_P), dtype=norm_P.dtype)) / norm_P
        return len(norm_P) * weight_P / weight_P.sum()


def bargain(gram_PP: Tensor) -> Tensor:
    """The a > 0 with G a = 1 / a. Damped Newton steps: the function is self-concordant, so they stay positive."""
    a_P = gram_PP.diagonal().rsqrt()
    for _ in range(STEPS):
        slope_P = gram_PP @ a_P - 1 / a_P
        step_P = torch.linalg.solve(gram_PP + torch.diag(a_P**-2), slope_P)
        decrement = float((slope_P @ step_P).clamp_min(0).sqrt())
        a_P = a_P - step_P / (1 + decrement)
        if decrement < CLOSE:
            break
    return a_P
