"""A small encoder of inverted residuals with depthwise convolutions.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", section 3. Activations are ReLU6, so
that ranges are bounded for 8-bit arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from mtnas.encoders.base import StagedEncoder, conv_bn, stage_levels
from mtnas.encoders.kernels import with_kernel


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise, linear 1x1 projection; a shortcut where shapes allow."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int, kernel: int | str = 3) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.expand = nn.Sequential(conv_bn(channels_in, hidden, kernel=1), nn.ReLU6())
        self.depthwise = with_kernel(
            kernel, lambda size: nn.Sequential(conv_bn(hidden, hidden, size, stride, hidden), nn.ReLU6())
        )
        self.project = conv_bn(hidden, channels_out, kernel=1)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner_BCHW = self.project(self.depthwise(self.expand(x_BCHW)))
        return x_BCHW + inner_BCHW if self.residual else inner_BCHW


class MobileNet(StagedEncoder):
    """Stem at stride 2, then stages at strides 4, 8, 16, ... up to `output_stride`.

    Args:
        width: channels of the stem and of the first stage; stage s has `width * (s + 1)`.
        depth: blocks of each stage.
        in_channels: channels of the image.
        output_stride: the coarsest stride.
        expansion: hidden channels per input channel of a block.
        kernel: of the depthwise convolutions, or `choice`.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        depth: Sequence[int] = (1, 2, 2, 2),
        in_channels: int = 3,
        output_stride: int = 16,
        expansion: int = 4,
        kernel: int | str = 3,
    ) -> None:
        stem = nn.Sequential(conv_bn(in_channels, width, stride=2), nn.ReLU6())
        super().__init__(
            stem,
            stage_levels(width, len(depth), output_stride),
            depth,
            width,
            partial(InvertedResidual, expansion=expansion, kernel=kernel),
        )
