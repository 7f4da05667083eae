"""Parallel resolutions: every stage adds a coarser branch, and ends by exchanging what the branches found.

Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition" (TPAMI 2020), section 3
(parallel convolutions, repeated fusion). Small: basic blocks throughout, one fusion for each stage. All fusions of one
resolution sum up, so that its channels are one group from the first stage to the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mtnas.encoders.base import Encoder, Level, conv_bn
from mtnas.encoders.resnet import BasicBlock


class Path(nn.Module):
    """From one branch to the size of another: strided 3x3 convolutions down, a 1x1 and nearest neighbours up."""

    def __init__(self, source: Level, target: Level) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        stride, channels = source.stride, source.channels
        while stride < target.stride // 2:
            layers += [conv_bn(channels, channels, stride=2), nn.ReLU()]
            stride *= 2
        down = stride < target.stride
        layers.append(conv_bn(channels, target.channels, kernel=3 if down else 1, stride=2 if down else 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        y_BCHW = self.layers(x_BCHW)
        rows, columns = y_BCHW.shape[-2:]
        return y_BCHW if (rows, columns) == size else F.interpolate(y_BCHW, size=size, mode="nearest")


class Fusion(nn.Module):
    """Every branch becomes ReLU of the sum of all branches, each brought to its size."""

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.paths = nn.ModuleList(
            nn.ModuleList(Path(source, target) for source in levels if source is not target) for target in levels
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        fused = []
        for number, (paths, own_BCHW) in enumerate(zip(self.paths, maps, strict=True)):
            rows, columns = own_BCHW.shape[-2:]
            others = [other for place, other in enumerate(maps) if place != number]
            total_BCHW = own_BCHW
            for path, other_BCHW in zip(paths.children(), others, strict=True):
                total_BCHW = total_BCHW + path(other_BCHW, (rows, columns))
            fused.append(self.relu(total_BCHW))
        return fused


class HRNet(Encoder):
    """Two strided convolutions to stride 4, then stages: stage s has s + 1 branches, and fuses them.

    Args:
        width: channels of the finest branch; branch r has `width * 2**r` at stride `4 * 2**r`.
        depth: blocks of each branch in each stage.
        in_channels: channels of the image.
        output_stride: the coarsest stride; branches past it stay there.
    """

    def __init__(
        self, *, width: int = 16, depth: Sequence[int] = (2, 2, 2, 2), in_channels: int = 3, output_stride: int = 16
    ) -> None:
        super().__init__()
        count = len(depth)
        self.levels = tuple(Level(width * 2**r, min(4 * 2**r, output_stride)) for r in range(count))
        self.stem = nn.Sequential(conv_bn(in_channels, width, stride=2), nn.ReLU())
        before = (Level(width, 2), *self.levels)
        self.openings = nn.ModuleList(
            nn.Sequential(conv_bn(a.channels, b.channels, stride=b.stride // a.stride), nn.ReLU())
            for a, b in zip(before, self.levels, strict=False)
        )
        self.branches = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(*[BasicBlock(level.channels, level.channels, 1) for _ in range(blocks)])
                for level in self.levels[: stage + 1]
            )
            for stage, blocks in enumerate(depth)
        )
        self.fusions = nn.ModuleList(Fusion(self.levels[: stage + 1]) for stage in range(count))

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        maps, x_BCHW = [], self.stem(image_BCHW)
        for opening, branches, fusion in zip(self.openings, self.branches, self.fusions, strict=True):
            maps.append(opening(x_BCHW))
            found = [branch(map_BCHW) for branch, map_BCHW in zip(branches.children(), maps, strict=True)]
            maps = fusion(found)
            x_BCHW = maps[-1]
        return tuple(maps)
