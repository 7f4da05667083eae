"""An image-level decoder: hidden 1x1 convolutions on the coarsest level, mean over the image, logits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mtnas.heads.base import Head, conv_bn_relu


class Pooled(Head):
    """Hidden layers come before the mean: batch-norm then sees every position, not only one vector per image.

    Args:
        level_channels: channels of the encoder's levels, fine to coarse; the coarsest is used.
        channels: number of logits.
        width: channels of the hidden layers.
        convs: hidden 1x1 convolutions, at least one.
    """

    reads = (-1,)

    def __init__(self, level_channels: Sequence[int], channels: int, width: int = 64, convs: int = 2) -> None:
        super().__init__()
        inputs = [level_channels[-1]] + [width] * (convs - 1)
        self.hidden = nn.Sequential(*[conv_bn_relu(size, width, kernel=1) for size in inputs])
        self.output = nn.Linear(width, channels)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        return self.output(self.hidden(maps[-1]).mean((2, 3)))
