"""A dense decoder that looks at the coarsest level through several dilations, and sharpens it with the finest.

Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution" (DeepLabV3+, ECCV 2018), section 3. The
dilations are half of theirs, for maps about half as large. What the image's mean contributes is added after the
projection, at one position: a 1x1 convolution of a concatenation is the sum of one for each part, and a constant map
needs no more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtnas.heads.base import Head, conv_bn_relu, resize

_RATES = (3, 6, 9)


class PyramidPooling(nn.Module):
    """1x1, dilated 3x3 and the image's mean, projected together to `width` channels."""

    def __init__(self, channels_in: int, width: int, rates: Sequence[int] = _RATES) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_bn_relu(channels_in, width, kernel=1)])
        self.branches.extend(conv_bn_relu(channels_in, width, dilation=rate) for rate in rates)
        self.project = nn.Sequential(nn.Conv2d(width * len(self.branches), width, 1, bias=False), nn.BatchNorm2d(width))
        self.pooled = nn.Sequential(nn.Conv2d(channels_in, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.relu = nn.ReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        seen_BCHW = self.project(torch.cat([branch(x_BCHW) for branch in self.branches], 1))
        return self.relu(seen_BCHW + self.pooled(x_BCHW.mean((2, 3), keepdim=True)))


class DeepLab(Head):
    """Pyramid pooling of the coarsest level, joined with a 1x1 of the finest, `convs` 3x3 convolutions, 1x1 output.

    Args:
        level_channels: channels of the encoder's levels, fine to coarse; the first and the last are used.
        channels: channels of the output.
        width: channels of the pyramid and of the convolutions; the skip has half of them.
        convs: 3x3 convolutions at the finest level, at least one.
    """

    reads = (0, -1)

    def __init__(self, level_channels: Sequence[int], channels: int, width: int = 64, convs: int = 2) -> None:
        super().__init__()
        skipped = max(8, width // 2)
        self.context = PyramidPooling(level_channels[-1], width)
        self.skip = conv_bn_relu(level_channels[0], skipped, kernel=1)
        inputs = [width + skipped] + [width] * (convs - 1)
        self.refine = nn.Sequential(*[conv_bn_relu(size, width) for size in inputs])
        self.output = nn.Conv2d(width, channels, 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        fine_BCHW = self.skip(maps[0])
        rows, columns = fine_BCHW.shape[-2:]
        context_BCHW = resize(self.context(maps[-1]), (rows, columns), "bilinear")
        return resize(self.output(self.refine(torch.cat([context_BCHW, fine_BCHW], 1))), size, "bilinear")
