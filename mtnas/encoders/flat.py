"""What the published mobile networks share: one flat list `features`, its blocks written down as rows of a table.

Parameters are named as in the public weights (`features.0.0`, `features.1.conv.0.0`, ...), so that they load by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from mtnas.encoders.base import Encoder, Level, steps_of
from mtnas.encoders.kernels import with_kernel

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One block of a table.

    Args:
        kernel: of the depthwise convolution, or `choice`.
        hidden, channels: after expansion and after projection.
        squeeze: whether it has squeeze-excite.
        activation: after the expansion and the depthwise convolution.
    """

    kernel: int | str
    hidden: int
    channels: int
    squeeze: bool = False
    activation: type[nn.Module] = nn.ReLU


@dataclass(frozen=True)
class Place:
    """Where a block stands: channels that come in, its stride and its dilation."""

    channels_in: int
    stride: int = 1
    dilation: int = 1


class FlatEncoder(Encoder):
    """An opening at stride 2, stages of blocks from stride 4 on, one more layer at the end of the coarsest level.

    Args:
        opening: layers at stride 2.
        channels: that the opening gives.
        stages: rows of each stage.
        block: makes a block from its place and its row.
        ending: channels of the last block -> (the layer after it, its channels).
        output_stride: the coarsest stride; past it stages dilate.
    """

    def __init__(
        self,
        opening: Sequence[nn.Module],
        channels: int,
        stages: Sequence[Sequence[Row]],
        block: Callable[[Place, Row], nn.Module],
        ending: Callable[[int], tuple[nn.Module, int]],
        output_stride: int,
    ) -> None:
        super().__init__()
        features, levels, ends = list(opening), [], []
        for step, rows in zip(steps_of(len(stages), output_stride), stages, strict=True):
            for number, row in enumerate(rows):
                first = number == 0
                place = Place(channels, step.stride if first else 1, step.first_dilation if first else step.dilation)
                features.append(block(place, row))
                channels = row.channels
            ends.append(len(features) - 1)
            levels.append(Level(channels, step.reached))
        last, channels = ending(channels)
        features.append(last)
        self.features = nn.Sequential(*features)
        self.ends = (*ends[:-1], len(features) - 1)
        self.levels = (*levels[:-1], Level(channels, levels[-1].stride))

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        x_BCHW, maps = image_BCHW, []
        for number, layer in enumerate(self.features):
            x_BCHW = layer(x_BCHW)
            if number in self.ends:
                maps.append(x_BCHW)
        return tuple(maps)


def conv_bn_act(
    channels: tuple[int, int],
    kernel: int,
    activation: type[nn.Module] | None = None,
    *,
    stride: int = 1,
    eps: float = 1e-5,
) -> nn.Sequential:
    """A plain convolution, its batch-norm and its activation, numbered 0, 1, 2; `channels` are (in, out)."""
    convolution = nn.Conv2d(*channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels[1], eps=eps), *([activation()] if activation else []))


def depthwise_bn_act(row: Row, place: Place, *, eps: float = 1e-5) -> nn.Module:
    """The depthwise convolution of a block, its batch-norm and its activation, numbered 0, 1, 2."""
    count, stride, dilation = row.hidden, place.stride, place.dilation

    def layers(kernel: int) -> nn.Sequential:
        padding = dilation * (kernel // 2)
        convolution = nn.Conv2d(count, count, kernel, stride, padding, dilation, groups=count, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(count, eps=eps), row.activation())

    return with_kernel(row.kernel, layers)


def first_rows(published: Sequence[T], blocks: int) -> list[T]:
    """The first `blocks` rows of a published stage; past its end the last row again."""
    return [*published[:blocks], *[published[-1]] * (blocks - len(published))]
