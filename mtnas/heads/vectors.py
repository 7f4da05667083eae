"""A learned vector for each task, added to the encoder's maps or multiplied with them before its head reads them.

Source: Wang, Yeh, Liao, "You Only Learn One Representation" (YOLOR, 2021), section 4: implicit knowledge as a vector
over channels, by addition or multiplication, drawn close to the value that changes nothing. A vector shrinks with the
channels that it meets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtnas.heads.base import Head
from mtnas.heads.table import ADD, MULTIPLY

_SPREAD = 0.02


class WithTaskVectors(Head):
    """A head behind one vector for each level that it reads.

    Args:
        head: what reads the changed maps.
        level_channels: channels of the encoder's levels, fine to coarse.
        operation: `add` or `multiply`.
    """

    def __init__(self, head: Head, level_channels: Sequence[int], operation: str) -> None:
        super().__init__()
        neutral = {ADD: 0.0, MULTIPLY: 1.0}[operation]
        count = len(level_channels)
        self.places = sorted({place % count for place in head.reads}) if head.reads else list(range(count))
        self.vectors = nn.ParameterList(
            nn.Parameter(neutral + _SPREAD * torch.randn(level_channels[place], 1, 1)) for place in self.places
        )
        self.head, self.multiplies = head, operation == MULTIPLY

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        changed = list(maps)
        for place, vector_C11 in zip(self.places, self.vectors, strict=True):
            level_BCHW = maps[place]
            changed[place] = level_BCHW * vector_C11 if self.multiplies else level_BCHW + vector_C11
        found: Tensor = self.head(changed, size)
        return found
