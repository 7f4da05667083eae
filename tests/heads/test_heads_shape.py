"""What makes each head what it is, and the network they form with an encoder."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtnas.encoders.resnet import ResNet
from mtnas.heads.base import resize
from mtnas.heads.fpn import FPN
from mtnas.heads.model import MultiTaskNet
from mtnas.heads.pooled import Pooled


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(8, 12), (7, 9), (4, 6)])
def test_resize_is_interpolation_to_a_size(mode: str, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 4, 6)
    align = False if mode == "bilinear" else None
    torch.testing.assert_close(resize(x, size, mode), F.interpolate(x, size=size, mode=mode, align_corners=align))


def test_fpn_uses_every_level() -> None:
    head = FPN((8, 8, 8), 2, width=8).eval()
    maps = [torch.randn(1, 8, 16 // 2**k, 16 // 2**k, requires_grad=True) for k in range(3)]
    head(maps, (64, 64)).sum().backward()
    assert all(level.grad.abs().sum() > 0 for level in maps)


def test_pooled_uses_the_coarsest_level_and_ignores_positions() -> None:
    head = Pooled((8, 8), 3, width=8).eval()
    fine, coarse = torch.randn(2, 8, 8, 8), torch.randn(2, 8, 4, 4)
    expected = head((fine, coarse), (32, 32))
    torch.testing.assert_close(head((fine * 0, coarse.flip(2, 3)), (32, 32)), expected)


def test_outputs_come_in_the_order_of_the_heads() -> None:
    encoder = ResNet(width=8, depth=(1, 1))
    channels = [level.channels for level in encoder.levels]
    heads: dict[str, nn.Module] = {name: FPN(channels, k + 1, width=8) for k, name in enumerate(("z", "a", "m"))}
    outputs = MultiTaskNet(encoder, heads).eval()(torch.randn(2, 3, 30, 34))
    assert list(outputs) == ["z", "a", "m"]
    assert outputs["m"].shape == (2, 3, 30, 34)


def test_tasks_share_the_encoder_only() -> None:
    encoder = ResNet(width=8, depth=(1,))
    model = MultiTaskNet(encoder, {name: FPN([8], 1, width=8) for name in ("a", "b")}).train()
    model(torch.randn(2, 3, 16, 16))["a"].sum().backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())
    assert all(parameter.grad is None for parameter in model.heads["b"].parameters())
