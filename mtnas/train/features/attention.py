"""Where the network looks: the energy of every position, whatever the number of channels.

Source: Zagoruyko, Komodakis, "Paying More Attention to Attention", ICLR 2017, section 3.1 (sum of squares over the
channels, one map per image, each of length 1).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mtnas.train.features.base import FeatureForm, unit_length


class Attention(FeatureForm):
    """|| a(F) - a(F*) ||^2 with a = unit-length map of the mean squares; mean over images, 2 at most."""

    needs_positions = True

    def distance(self, number: int, student_BCN: Tensor, teacher_BCN: Tensor, kept_C: np.ndarray) -> Tensor:
        difference_BN = attention(student_BCN) - attention(teacher_BCN)
        return difference_BN.square().sum(1).mean()


def attention(x_BCN: Tensor) -> Tensor:
    """(B,N), each row of length 1."""
    return unit_length(x_BCN.square().mean(1))
