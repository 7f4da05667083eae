"""MobileNetV3-Large in its published proportions.

Source: Howard et al., "Searching for MobileNetV3" (ICCV 2019), table 1. Stages of equal stride are one stage here; the
one block at stride 2 belongs to the opening. The final 1x1 convolution is part of the coarsest level.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mtnas.encoders.base import multiple_of_8
from mtnas.encoders.flat import FlatEncoder, Place, Row, conv_bn_act, depthwise_bn_act, first_rows
from mtnas.encoders.squeeze import SqueezeExcite

_EPS = 1e-3  # of every batch-norm, as in the public weights
_STEM, _SQUEEZE, _ENDING = 16, 4, 6
#: (kernel, hidden, channels, squeeze-excite) of the blocks of each stage, strides 4 to 32.
_STAGES = (
    ((3, 64, 24, False), (3, 72, 24, False)),
    ((5, 72, 40, True), (5, 120, 40, True), (5, 120, 40, True)),
    (
        *((3, 240, 80, False), (3, 200, 80, False), (3, 184, 80, False), (3, 184, 80, False)),
        *((3, 480, 112, True), (3, 672, 112, True)),
    ),
    ((5, 672, 160, True), (5, 960, 160, True), (5, 960, 160, True)),
)
_HARD_SWISH_FROM = 2  # stage; finer ones have ReLU


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise, squeeze-excite (some), linear 1x1; a shortcut where shapes allow."""

    def __init__(self, place: Place, row: Row) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if row.hidden != place.channels_in:
            layers.append(conv_bn_act((place.channels_in, row.hidden), 1, row.activation, eps=_EPS))
        layers.append(depthwise_bn_act(row, place, eps=_EPS))
        if row.squeeze:
            layers.append(SqueezeExcite(row.hidden, multiple_of_8(row.hidden / _SQUEEZE)))
        layers.append(conv_bn_act((row.hidden, row.channels), 1, eps=_EPS))
        self.block = nn.Sequential(*layers)
        self.residual = place.stride == 1 and place.channels_in == row.channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.block(x_BCHW) if self.residual else self.block(x_BCHW)


class MobileNetV3(FlatEncoder):
    """Stem at stride 2, four stages at strides 4 to 32, a last convolution of six times their channels.

    Args:
        width: channels of the stem, 16 as published; all others follow in proportion, in multiples of 8.
        depth: blocks of each stage; the first so many of the published ones, past those the last one again.
        in_channels: channels of the image.
        output_stride: the coarsest stride.
        kernel: of the depthwise convolutions from stride 4 on, or `choice`; 0 = as published.
    """

    def __init__(
        self,
        *,
        width: int = _STEM,
        depth: Sequence[int] = (2, 3, 6, 3),
        in_channels: int = 3,
        output_stride: int = 32,
        kernel: int | str = 0,
    ) -> None:
        def size(channels: int) -> int:
            return multiple_of_8(channels * width / _STEM)

        def rows(stage: int, blocks: int) -> list[Row]:
            activation = nn.Hardswish if stage >= _HARD_SWISH_FROM else nn.ReLU
            published = first_rows(_STAGES[stage], blocks)
            return [
                Row(kernel or k, size(hidden), size(count), gated, activation) for k, hidden, count, gated in published
            ]

        def ending(channels_in: int) -> tuple[nn.Module, int]:
            wide = channels_in * _ENDING
            return conv_bn_act((channels_in, wide), 1, nn.Hardswish, eps=_EPS), wide

        stem = size(_STEM)
        opening = [
            conv_bn_act((in_channels, stem), 3, nn.Hardswish, stride=2, eps=_EPS),
            InvertedResidual(Place(stem), Row(3, stem, stem)),
        ]
        stages = [rows(stage, blocks) for stage, blocks in enumerate(depth)]
        super().__init__(opening, stem, stages, InvertedResidual, ending, output_stride)
