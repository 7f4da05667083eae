"""What makes each encoder what it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtnas.encoders.base import stage_levels
from mtnas.encoders.mobilenet import InvertedResidual, MobileNet
from mtnas.encoders.resnet import BasicBlock, ResNet


def test_levels_grow_linearly_until_the_output_stride() -> None:
    levels = stage_levels(32, 4, 16)
    assert [(level.channels, level.stride) for level in levels] == [(32, 4), (64, 8), (96, 16), (128, 16)]


def test_basic_block_is_a_residual() -> None:
    """With the inner path at zero, a block is ReLU of its input."""
    block = BasicBlock(8, 8, 1).eval()
    nn.init.zeros_(block.second[1].weight)
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(block(x), x.relu())
    assert isinstance(block.shortcut, nn.Identity)
    assert not isinstance(BasicBlock(8, 8, 2).shortcut, nn.Identity)


def test_inverted_residual_is_linear_at_its_end() -> None:
    """With the inner path at zero, a block is its input, negative values included."""
    block = InvertedResidual(8, 8, 1, 4).eval()
    nn.init.zeros_(block.project[1].weight)
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(block(x), x)
    assert not InvertedResidual(8, 16, 1, 4).residual and not InvertedResidual(8, 8, 2, 4).residual


def test_depthwise_convolutions_have_one_filter_per_channel() -> None:
    grouped = [m for m in MobileNet(width=16, depth=(1, 1)).modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(grouped) == 2
    assert all(m.groups == m.in_channels == m.out_channels and m.weight.shape[1] == 1 for m in grouped)


@pytest.mark.parametrize("width", [16, 32])
def test_parameters_of_one_residual_stage(width: int) -> None:
    """Stem 27 w + 2 w; block 2 (9 w^2) + 4 w; projection w^2 + 2 w."""
    count = sum(parameter.numel() for parameter in ResNet(width=width, depth=(1,)).parameters())
    assert count == 27 * width + 2 * width + 18 * width**2 + 4 * width + width**2 + 2 * width
