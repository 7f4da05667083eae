"""What every encoder offers: its levels, and a forward pass that returns one feature map per level.

Nothing in a forward pass may name a channel count, since groups of channels are cut later. Shape letters: B = batch,
C = channels, H, W = rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class StagedEncoder(Encoder):
    """A stem at stride 2, then one stage of blocks per level; every stage's output is a level.

    Args:
        stem: image to the first stage's input, `width` channels at stride 2.
        levels: what the stages return.
        depth: blocks of each stage.
        width: channels that the stem returns.
        block: (channels in, channels out, stride) -> one block; the first of a stage strides.
    """

    def __init__(
        self,
        stem: nn.Module,
        levels: tuple[Level, ...],
        depth: Sequence[int],
        width: int,
        block: Callable[[int, int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.levels, self.stem = levels, stem
        stages, channels, stride = [], width, 2
        for level, blocks in zip(levels, depth, strict=True):
            layers = [block(channels, level.channels, level.stride // stride)]
            layers += [block(level.channels, level.channels, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*layers))
            channels, stride = level.channels, level.stride
        self.stages = nn.ModuleList(stages)

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        x_BCHW, maps = self.stem(image_BCHW), []
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
            maps.append(x_BCHW)
        return tuple(maps)


def stage_levels(width: int, stages: int, output_stride: int) -> tuple[Level, ...]:
    """Stage s has `width * (s + 1)` channels, and half the resolution of the one before until `output_stride`.

    Linear growth keeps every stage on a multiple of `width`, so that channel counts stay on the steps devices like,
    and spends fewer parameters on the coarse stages than doubling does.
    """
    return tuple(Level(width * (s + 1), min(4 * 2**s, output_stride)) for s in range(stages))


@dataclass(frozen=True)
class Step:
    """How one stage of a published network goes on when strides end at `output_stride`: it dilates instead.

    Args:
        reached: the stage's stride.
        stride: of its first block.
        first_dilation: of the convolution that would stride, which still reads the grid before.
        dilation: of all others in the stage.
    """

    reached: int
    stride: int
    first_dilation: int
    dilation: int


def steps_of(stages: int, output_stride: int) -> tuple[Step, ...]:
    """Stages at strides 4, 8, ... up to `output_stride`; past it the grid stays and the dilation doubles.

    A dilated network sees as much of the image as the strided one, with the same weights (Chen et al., "Rethinking
    Atrous Convolution", section 3.1).
    """
    steps, dilation = [], 1
    for wanted in (4 * 2**stage for stage in range(stages)):
        before = dilation
        strides = wanted <= output_stride
        dilation *= 1 if strides else 2
        steps.append(Step(min(wanted, output_stride), 2 if strides else 1, before, dilation))
    return tuple(steps)


def multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and never below 90 % of `channels` (as the MobileNets are scaled)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def conv_bn(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias, and the batch-norm that folds into it."""
    convolution = nn.Conv2d(
        channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out))
