"""Tasks weighted by how much of their gradient lies in the directions that tasks have in common.

Source: Wu, Zhang, Re, "Understanding and Improving Information Transfer in Multi-Task Learning", on SVD-based re-
weighting: with M = [X^T y_1, ..., X^T y_k] = U D V^T cut to rank r, the weight of task i is |U_r^T X^T y_i|. For a
linear model at zero, X^T y_i is minus the gradient of the squared loss; that is how it is carried over to networks
here: the columns of M are the tasks' gradients. They are brought to length 1 first, since losses have different units,
and r is the number of squared singular values above their mean, 1: directions in which more than one task's worth of
gradient lies. Where there is none, all tasks weigh the same. Weights are scaled to add up to the number of tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtnas.train.balance.gradient import GradientBalance

#: eigenvalues this little above 1 count as 1
SLACK = 1e-6


class SvdWeights(GradientBalance):
    """Weights are never negative; a task that shares no direction with others that do moves its own part alone."""

    def solve(self, gram_PP: Tensor) -> Tensor:
        norm_P = gram_PP.diagonal().sqrt()
        values_P, vectors_PP = torch.linalg.eigh(gram_PP / norm_P[:, None] / norm_P)
        common_P = torch.where(values_P > 1 + SLACK, values_P, 0.0)
        if not common_P.any():
            return torch.ones_like(norm_P)
        weight_P = (vectors_PP**2 @ common_P).sqrt()
        return len(norm_P) * weight_P / weight_P.sum()
