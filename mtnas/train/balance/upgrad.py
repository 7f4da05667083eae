"""Each task's gradient projected to where it harms no task, then the sum.

Source: Quinton, Rey, "Jacobian Descent for Multi-Objective Optimization", section 3 and proposition 1. The rule is
torchjd's; the projection is ours, since the library's needs quadprog, which is under the GPL.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mtnas.train.balance.gradient import GradientBalance, root_of, torchjd


class UpGrad(GradientBalance):
    """Weights are at least one, the step goes against no gradient, and without conflict it is the plain sum."""

    def solve(self, gram_PP: Tensor) -> Tensor:
        ones = torch.ones(len(gram_PP), dtype=gram_PP.dtype)
        return torchjd("upgrad").UPGradWeighting(ones, projector=project)(gram_PP)


def project(u_MP: Tensor, gram_PP: Tensor) -> Tensor:
    """For each row u, the v >= u that minimises v^T G v: the weights of the projection on the dual cone.

    With v = u + x and G = R^T R this is non-negative least squares in x: |R x + R u| with x >= 0.
    """
    from scipy.optimize import nnls

    root_PP = root_of(gram_PP)
    rows = [u_P + nnls(root_PP, -root_PP @ u_P)[0] for u_P in u_MP.numpy()]
    return torch.from_numpy(np.stack(rows))
