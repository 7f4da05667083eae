"""The published residual networks: resnet18, resnet34, resnet50.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016), table 1; the bottleneck strides
in its 3x3 convolution, as all public weights of it do. Parameters are named as in those weights (`conv1`, `bn1`,
`layer1.0.conv1` ... `layer1.0.downsample.0`), so that they load by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mtnas.encoders.base import Encoder, Level, Step, steps_of


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(channels_in, channels_out, kernel, stride, padding, dilation, bias=False)


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    return nn.Sequential(_conv(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; ReLU after the sum.

    Args:
        channels_in, width: channels that come in, and of both convolutions.
        stride: of the first convolution.
        dilations: of the first convolution, and of what follows it.
    """

    growth = 1

    def __init__(self, channels_in: int, width: int, stride: int, dilations: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, width, 3, stride, dilations[0])
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, 1, dilations[1])
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels_in, width, stride)
        self.relu = nn.ReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner_BCHW = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x_BCHW)))))
        return self.relu(inner_BCHW + self.downsample(x_BCHW))


class Bottleneck(nn.Module):
    """1x1 reduction, 3x3, 1x1 expansion to four times the width, and a shortcut; ReLU after the sum.

    Args:
        channels_in, width: channels that come in, and of the 3x3 convolution.
        stride: of the 3x3 convolution.
        dilations: of the 3x3 convolution; the second is for basic blocks.
    """

    growth = 4

    def __init__(self, channels_in: int, width: int, stride: int, dilations: tuple[int, int]) -> None:
        super().__init__()
        wide = width * self.growth
        self.conv1 = _conv(channels_in, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride, dilations[0])
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, wide, 1)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample = _shortcut(channels_in, wide, stride)
        self.relu = nn.ReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner_BCHW = self.relu(self.bn1(self.conv1(x_BCHW)))
        inner_BCHW = self.relu(self.bn2(self.conv2(inner_BCHW)))
        return self.relu(self.bn3(self.conv3(inner_BCHW)) + self.downsample(x_BCHW))


class ResNet(Encoder):
    """7x7 stem and max-pool to stride 4, then stages of doubling width; past `output_stride` they dilate.

    Args:
        width: channels of the stem; stage s has `width * 2**s`, times four where blocks are bottlenecks.
        depth: blocks of each stage.
        in_channels: channels of the image.
        output_stride: the coarsest stride.
    """

    block: type[BasicBlock | Bottleneck]

    def __init__(
        self, *, width: int = 64, depth: Sequence[int] = (2, 2, 2, 2), in_channels: int = 3, output_stride: int = 32
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        steps = steps_of(len(depth), output_stride)
        self.stages = [f"layer{number + 1}" for number in range(len(depth))]
        channels, levels = width, []
        for number, (stage, blocks, step) in enumerate(zip(self.stages, depth, steps, strict=True)):
            inner = width * 2**number
            # The max-pool has brought the first stage to stride 4 already.
            self.add_module(stage, self._stage(channels, inner, blocks, step, step.stride if number else 1))
            channels = inner * self.block.growth
            levels.append(Level(channels, step.reached))
        self.levels = tuple(levels)

    def _stage(self, channels_in: int, width: int, blocks: int, step: Step, stride: int) -> nn.Sequential:
        layers: list[nn.Module] = [self.block(channels_in, width, stride, (step.first_dilation, step.dilation))]
        wide = width * self.block.growth
        layers += [self.block(wide, width, 1, (step.dilation, step.dilation)) for _ in range(blocks - 1)]
        return nn.Sequential(*layers)

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        x_BCHW, maps = self.maxpool(self.relu(self.bn1(self.conv1(image_BCHW)))), []
        for stage in self.stages:
            x_BCHW = self.get_submodule(stage)(x_BCHW)
            maps.append(x_BCHW)
        return tuple(maps)


class BasicResNet(ResNet):
    """Of basic blocks: resnet18 with (2, 2, 2, 2) of them, resnet34 with (3, 4, 6, 3)."""

    block = BasicBlock


class BottleneckResNet(ResNet):
    """Of bottlenecks: resnet50 with (3, 4, 6, 3)."""

    block = Bottleneck
