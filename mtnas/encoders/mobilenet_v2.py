"""MobileNetV2 in its published proportions.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR 2018), table 2. Stages of equal
stride are one stage here; the one block at stride 2 belongs to the opening. The final 1x1 convolution is part of the
coarsest level.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mtnas.encoders.base import multiple_of_8
from mtnas.encoders.flat import FlatEncoder, Place, Row, conv_bn_act, depthwise_bn_act, first_rows

#: Channels of the blocks of each stage, strides 4 to 32.
_STAGES = ((24, 24), (32, 32, 32), (64, 64, 64, 64, 96, 96, 96), (160, 160, 160, 320))
_STEM, _FIRST, _EXPANSION, _ENDING = 32, 16, 6, 4


class InvertedResidual(nn.Module):
    """1x1 expansion (none where nothing is expanded), depthwise, linear 1x1; a shortcut where shapes allow."""

    def __init__(self, place: Place, row: Row) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if row.hidden != place.channels_in:
            layers.append(conv_bn_act((place.channels_in, row.hidden), 1, row.activation))
        layers.append(depthwise_bn_act(row, place))
        layers += conv_bn_act((row.hidden, row.channels), 1)
        self.conv = nn.Sequential(*layers)
        self.residual = place.stride == 1 and place.channels_in == row.channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.conv(x_BCHW) if self.residual else self.conv(x_BCHW)


class MobileNetV2(FlatEncoder):
    """Stem at stride 2, four stages at strides 4 to 32, a last convolution of four times their channels.

    Args:
        width: channels of the stem, 32 as published; all others follow in proportion, in multiples of 8.
        depth: blocks of each stage; the first so many of the published ones, past those the last one again.
        in_channels: channels of the image.
        output_stride: the coarsest stride.
        kernel: of the depthwise convolutions from stride 4 on, or `choice`.
    """

    def __init__(
        self,
        *,
        width: int = _STEM,
        depth: Sequence[int] = (2, 3, 7, 4),
        in_channels: int = 3,
        output_stride: int = 32,
        kernel: int | str = 3,
    ) -> None:
        def size(channels: int) -> int:
            return multiple_of_8(channels * width / _STEM)

        stem, first = size(_STEM), size(_FIRST)
        channels, stages = first, []
        for stage, blocks in enumerate(depth):
            rows = []
            for count in first_rows(_STAGES[stage], blocks):
                rows.append(Row(kernel, channels * _EXPANSION, size(count), activation=nn.ReLU6))
                channels = size(count)
            stages.append(rows)

        def ending(channels_in: int) -> tuple[nn.Module, int]:
            return conv_bn_act((channels_in, channels_in * _ENDING), 1, nn.ReLU6), channels_in * _ENDING

        opening = [
            conv_bn_act((in_channels, stem), 3, nn.ReLU6, stride=2),
            InvertedResidual(Place(stem), Row(3, stem, first, activation=nn.ReLU6)),
        ]
        super().__init__(opening, first, stages, InvertedResidual, ending, output_stride)
