"""Cross-task affinity: where two places look alike to all tasks together, each task lets them share its features.

Source: Sinodinos and Armanfard, "Cross-Task Affinity Learning" (CTAL, 2024): affinity matrices of all tasks' features
are fused by a 3x3 convolution over places, and `features + gamma * value @ affinity` refines each task. Written anew
from the formula, so that no parameter depends on the map's size. There a convolution with one group per place fuses the
matrices; shared by all places, it moves inside the product, since a 3x3 over the places of `q' k` is `q'` times the
3x3 of `k`. Queries and keys are 1x1 convolutions of all tasks' features side by side, of which each task's own product
is a special case; batch-norm takes the place of L2 normalisation. All this happens on a grid of 8x8 places, so the
matrices stay small. N = places of the grid, M and N among indices of an affinity: to and from which place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtnas.heads.base import conv_bn_relu, resize
from mtnas.heads.joint import JointHead, TopDown

_GRID = 8
_GAMMA = 0.05


def _conv_bn(
    channels_in: int, channels_out: int, kernel: int = 1, groups: int = 1, gamma: float = 1.0
) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(channels_out)
    nn.init.constant_(norm.weight, gamma)
    return nn.Sequential(convolution, norm)


class CrossTask(nn.Module):
    """What one task takes over from places that look alike; starts at a share of `_GAMMA`.

    Args:
        own: channels of the task's features.
        all_tasks: channels of all tasks' features together.
        width: channels of queries, keys and values.
    """

    def __init__(self, own: int, all_tasks: int, width: int) -> None:
        super().__init__()
        self.query = _conv_bn(all_tasks, width)
        self.key = nn.Sequential(_conv_bn(all_tasks, width), _conv_bn(width, width, 3, groups=width))
        self.value = _conv_bn(own, width)
        self.output = _conv_bn(width, own, gamma=_GAMMA)

    def forward(self, own_BCHW: Tensor, all_BCHW: Tensor) -> Tensor:
        rows, columns = own_BCHW.shape[-2:]
        query_BCN, key_BCN = self.query(all_BCHW).flatten(2), self.key(all_BCHW).flatten(2)
        affinity_BMN = query_BCN.transpose(1, 2) @ key_BCN / (rows * columns)
        shared_BCM = self.value(own_BCHW).flatten(2) @ affinity_BMN.transpose(1, 2)
        return self.output(shared_BCM.unflatten(2, (rows, columns)))


class Affinity(JointHead):
    """A pyramid and convolutions for each task, refined by cross-task affinity, then 1x1 outputs.

    Args:
        level_channels: channels of the encoder's levels, fine to coarse.
        channels: channels of each task's output.
        width: channels of each task's features, and of its queries, keys and values.
        convs: 3x3 convolutions of each task before the others are looked at, at least one.
    """

    def __init__(
        self, level_channels: Sequence[int], channels: Mapping[str, int], width: int = 64, convs: int = 2
    ) -> None:
        super().__init__()
        together = width * len(channels)

        def features() -> nn.Module:
            return nn.Sequential(TopDown(level_channels, width), *[conv_bn_relu(width, width) for _ in range(convs)])

        self.features = nn.ModuleDict({task: features() for task in channels})
        self.exchange = nn.ModuleDict({task: CrossTask(width, together, width) for task in channels})
        self.output = nn.ModuleDict({task: nn.Conv2d(width, count, 1) for task, count in channels.items()})

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        own = {task: features(maps) for task, features in self.features.items()}
        pooled = {task: F.adaptive_avg_pool2d(x_BCHW, _GRID) for task, x_BCHW in own.items()}
        all_BCHW = torch.cat(list(pooled.values()), 1)
        found = {}
        for task, x_BCHW in own.items():
            rows, columns = x_BCHW.shape[-2:]
            shared_BCHW = self.exchange[task](pooled[task], all_BCHW)
            refined_BCHW = F.relu(x_BCHW + resize(shared_BCHW, (rows, columns), "bilinear"))
            found[task] = resize(self.output[task](refined_BCHW), size, "bilinear")
        return found
