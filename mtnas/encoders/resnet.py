"""A small residual encoder of basic blocks.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", section 3 (basic block) and 4.1
(projection shortcut). The stem is one strided 3x3 convolution, and the first stage strides instead of a max-pool.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mtnas.encoders.base import StagedEncoder, conv_bn, stage_levels


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; ReLU after the sum."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(channels_in, channels_out, stride=stride)
        self.second = conv_bn(channels_out, channels_out)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else conv_bn(channels_in, channels_out, kernel=1, stride=stride)
        self.relu = nn.ReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner_BCHW = self.second(self.relu(self.first(x_BCHW)))
        return self.relu(inner_BCHW + self.shortcut(x_BCHW))


class ResNet(StagedEncoder):
    """Stem at stride 2, then stages at strides 4, 8, 16, ... up to `output_stride`.

    Args:
        width: channels of the stem and of the first stage; stage s has `width * (s + 1)`.
        depth: blocks of each stage.
        in_channels: channels of the image.
        output_stride: the coarsest stride.
    """

    def __init__(
        self, *, width: int = 32, depth: Sequence[int] = (1, 2, 2, 2), in_channels: int = 3, output_stride: int = 16
    ) -> None:
        stem = nn.Sequential(conv_bn(in_channels, width, stride=2), nn.ReLU())
        super().__init__(stem, stage_levels(width, len(depth), output_stride), depth, width, BasicBlock)
