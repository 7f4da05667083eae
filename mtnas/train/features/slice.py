"""Channel by channel: a kept channel looks the same in every network that has it.

The natural form where channels are nested: after standardising each channel (over batch and positions, so that scale
and offset are free), the mean squared difference to the same channels of the largest network.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mtnas.train.features.base import FeatureForm, standardised


class Slice(FeatureForm):
    """mean((n(F) - n(F*)[:, kept])^2), n = per-channel standardisation; 2 for unrelated channels."""

    needs_channels = True

    def distance(self, number: int, student_BCN: Tensor, teacher_BCN: Tensor, kept_C: np.ndarray) -> Tensor:
        channels = torch.from_numpy(kept_C).to(teacher_BCN.device)
        difference = standardised(student_BCN) - standardised(teacher_BCN.index_select(1, channels))
        return difference.square().mean()
