"""Pieces that the networks of the zoo are built from, and their images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 32


def image(batch: int = 2, side: int = SIDE, seed: int = 0) -> Tensor:
    """A random image batch (B,3,side,side)."""
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def conv_bn(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, batch-norm, ReLU."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


def upsample(x_BCHW: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, size=like.shape[-2:], mode="bilinear", align_corners=False)


class PooledHead(nn.Module):
    """Global average pooling, dropout, linear."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.1)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.linear(self.drop(F.adaptive_avg_pool2d(x_BCHW, 1).flatten(1)))
