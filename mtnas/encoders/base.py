"""What every encoder offers: its levels, and a forward pass that returns one feature map per level.

Nothing in a forward pass may name a channel count, since groups of channels are cut later. Shape letters: B = batch,
C = channels, H, W = rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Level:
    """One feature map an encoder returns.

    Args:
        channels: at full width.
        stride: input pixels per row of the map.
    """

    channels: int
    stride: int


class Encoder(nn.Module):
    """Base class: subclasses set `levels`, fine to coarse, and return one map per level, in that order."""

    levels: tuple[Level, ...]

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError


def stage_levels(width: int, stages: int, output_stride: int) -> tuple[Level, ...]:
    """Stage s has `width * (s + 1)` channels, and half the resolution of the one before until `output_stride`.

    Linear growth keeps every stage on a multiple of `width`, so that channel counts stay on the steps devices like,
    and spends fewer parameters on the coarse stages than doubling does.
    """
    return tuple(Level(width * (s + 1), min(4 * 2**s, output_stride)) for s in range(stages))


def conv_bn(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias, and the batch-norm that folds into it."""
    convolution = nn.Conv2d(
        channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out))
