"""The shortest vector in the convex hull of the gradients: no task can gain more unless another loses.

Source: Sener, Koltun, "Multi-Task Learning as Multi-Objective Optimization", section 3. Gradients are not normalised.
The weights w on the simplex that minimise |J^T w| are found exactly, as x / sum x with the x >= 0 that minimises
|J^T x|^2 + (1 - sum x)^2; the paper's Frank-Wolfe steps (its algorithm 2, and torchjd) end well short of it when the
lengths differ a hundredfold. The weights add up to the number of tasks (to 1 in the paper).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mtnas.train.balance.gradient import GradientBalance, root_of


class Mgda(GradientBalance):
    """Weights are never negative; the step goes against no gradient."""

    def solve(self, gram_PP: Tensor) -> Tensor:
        from scipy.optimize import nnls

        tasks = len(gram_PP)
        left = np.vstack([root_of(gram_PP), np.ones(tasks)])
        weight_P, _ = nnls(left, np.append(np.zeros(tasks), 1.0))
        return tasks * torch.from_numpy(weight_P / weight_P.sum())
