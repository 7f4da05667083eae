"""A dense decoder: a feature pyramid of its own, then convolutions at the finest level.

Source: Lin et al., "Feature Pyramid Networks for Object Detection", section 3 (lateral 1x1, nearest top-down). Each
task has its own pyramid, so that a task's share of the budget can be moved by its decoder's widths alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mtnas.heads.base import Head, conv_bn_relu, resize


class FPN(Head):
    """Lateral 1x1 convolutions, top-down sum, `convs` 3x3 convolutions, 1x1 output, bilinear to the image's size.

    Args:
        level_channels: channels of the encoder's levels, fine to coarse.
        channels: channels of the output.
        width: channels of the pyramid and of the convolutions.
        convs: 3x3 convolutions at the finest level, at least one.
    """

    def __init__(self, level_channels: Sequence[int], channels: int, width: int = 64, convs: int = 2) -> None:
        super().__init__()
        self.laterals = nn.ModuleList([conv_bn_relu(level, width, kernel=1) for level in level_channels])
        self.smooth = nn.Sequential(*[conv_bn_relu(width, width) for _ in range(convs)])
        self.output = nn.Conv2d(width, channels, 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        laterals = [lateral(level) for lateral, level in zip(self.laterals, maps, strict=True)]
        x_BCHW = laterals.pop()
        for finer_BCHW in reversed(laterals):
            rows, columns = finer_BCHW.shape[-2:]
            x_BCHW = finer_BCHW + resize(x_BCHW, (rows, columns), "nearest")
        return resize(self.output(self.smooth(x_BCHW)), size, "bilinear")
