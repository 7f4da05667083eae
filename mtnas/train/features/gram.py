"""Which positions are alike: inner products between positions, whatever the number of channels.

Source: Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, section 3 (rows of F F^T normalised to
length 1), taken over the positions of each image instead of the images of a batch. Maps are averaged down
first, since the cost grows with the square of the number of positions. The squared difference is divided by the
number of rows, and not of entries, so that it lies between 0 and 4 like the other forms' (2 for orthogonal rows).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mtnas.train.features.base import FeatureForm, unit_length


class Gram(FeatureForm):
    """mean over rows of || g(F) - g(F*) ||^2, g = F F^T over positions with rows of length 1."""

    needs_positions = True
    side = 8

    def distance(self, number: int, student_BCN: Tensor, teacher_BCN: Tensor, kept_C: np.ndarray) -> Tensor:
        difference_BNN = gram(student_BCN) - gram(teacher_BCN)
        return difference_BNN.square().sum(2).mean()


def gram(x_BCN: Tensor) -> Tensor:
    """(B,N,N), each row of length 1."""
    return unit_length(x_BCN.transpose(1, 2) @ x_BCN)
