"""The contract of a feature distillation: how far a sub-network's features are from the largest network's.

Source of the idea: Aich, Schulter, Roy-Chowdhury, Chandraker, Suh, "Efficient Controllable Multi-Task Architectures",
ICCV 2023 (configuration-invariant distillation: the encoder should answer alike at every width). Its formula is not
public; the forms here are the ways known to compare features of different widths.

Every form is 0 for equal features and about 2 for unrelated ones, so that one weight means the same for all. All are
computed in float32, whatever the features come in. Shape letters: B = batch, C = channels, N = positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtnas.elastic.features import FeatureMap
from mtnas.elastic.sort import Along, Order

#: Added to sums of squares; far below those of any map that is not constant.
EPSILON = 1e-6


class FeatureForm(nn.Module):
    """The mean distance over all maps. What a form learns lies in its parameters, and is thrown away after training.

    Args:
        maps: what the features are, with their channels where `needs_channels` is true.
        widths: by group, the numbers of units that sub-networks may have.
    """

    #: whether it must know which channels a sub-network keeps
    needs_channels: ClassVar[bool] = False
    #: whether it compares positions, so that one alone says nothing
    needs_positions: ClassVar[bool] = False
    #: rows and columns that maps are averaged down to; 0 = as they are
    side: ClassVar[int] = 0

    def __init__(self, maps: Sequence[FeatureMap], widths: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.maps, self.widths = tuple(maps), widths

    def distance(self, number: int, student_BCN: Tensor, teacher_BCN: Tensor, kept_C: np.ndarray) -> Tensor:
        """One number for map `number`; `kept_C` are the teacher's channels that the student has."""
        raise NotImplementedError

    def moved(self, order: Order, along: Along) -> None:
        """Channels changed places (see `ElasticModel.sort_channels`): what is learned for each follows, in place."""

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor], kept: Sequence[np.ndarray]) -> Tensor:
        """Mean over the maps; gradients reach the students and the form's own parameters only."""
        with torch.autocast(students[0].device.type, enabled=False):
            pairs = [
                _on_one_grid(student.float(), teacher.detach().float(), self.side)
                for student, teacher in zip(students, teachers, strict=True)
            ]
            distances = [
                self.distance(k, *pair, kept_C) for k, (pair, kept_C) in enumerate(zip(pairs, kept, strict=True))
            ]
            return torch.stack(distances).mean()


def standardised(x_BCN: Tensor) -> Tensor:
    """Every channel with mean 0 and variance 1 over the batch and all positions; constant channels become 0."""
    centred_BCN = x_BCN - x_BCN.mean((0, 2), keepdim=True)
    return centred_BCN * (centred_BCN.square().mean((0, 2), keepdim=True) + EPSILON).rsqrt()


def unit_length(x: Tensor) -> Tensor:
    """Rows of length 1 along the last axis; rows of zeros stay zeros."""
    return x * (x.square().sum(-1, keepdim=True) + EPSILON**2).rsqrt()


def _on_one_grid(student: Tensor, teacher: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Both as (B,C,N); of maps with different resolutions the finer is averaged down, to `side` x `side` at most."""
    if student.ndim == 4:
        rows, columns = (min(student.shape[k], teacher.shape[k], side or student.shape[k]) for k in (2, 3))
        maps = [
            x if x.shape[2:] == (rows, columns) else F.adaptive_avg_pool2d(x, (rows, columns))
            for x in (student, teacher)
        ]
        return maps[0].flatten(2), maps[1].flatten(2)
    if student.ndim == 3:
        student, teacher = student.transpose(1, 2), teacher.transpose(1, 2)
        count = min(student.shape[2], teacher.shape[2], side**2 or student.shape[2])
        tokens = [x if x.shape[2] == count else F.adaptive_avg_pool1d(x, count) for x in (student, teacher)]
        return tokens[0], tokens[1]
    return student.unsqueeze(2), teacher.unsqueeze(2)
