"""Universal inverted bottlenecks by their closed forms; parallel resolutions by who sees whom."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtnas.encoders.base import Level
from mtnas.encoders.hrnet import Fusion, HRNet, Path
from mtnas.encoders.table import UIB_OPERATORS
from mtnas.encoders.uib import UniversalBottleneck


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("operator", UIB_OPERATORS)
@pytest.mark.parametrize("squeeze", [0, 4])
def test_numbers_of_a_universal_bottleneck(operator: str, squeeze: int) -> None:
    """11 c and 11 h for the depthwise ones, c h + 2 h and h d + 2 d around them, 2 h s + h + s in the gate."""
    c, d, h, s = 8, 16, 32, 8
    before, inside = UIB_OPERATORS[operator]
    expected = before * 11 * c + inside * 11 * h + c * h + 2 * h + h * d + 2 * d + (2 * h * s + h + s if squeeze else 0)
    assert parameters(UniversalBottleneck(c, d, 1, 4, operator, squeeze)) == expected


@pytest.mark.parametrize("operator", UIB_OPERATORS)
def test_a_universal_bottleneck_strides_once_and_is_linear_at_its_end(operator: str) -> None:
    x = torch.randn(2, 8, 9, 12)
    assert UniversalBottleneck(8, 16, 2, 4, operator, 0)(x).shape == (2, 16, 5, 6)
    block = UniversalBottleneck(8, 8, 1, 4, operator, 4).eval()
    nn.init.zeros_(list(block.layers)[-1][1].weight)
    assert torch.equal(block(x), x)


def test_an_ffn_that_strides_is_an_ib() -> None:
    ffn, ib = (UniversalBottleneck(8, 8, 2, 4, operator, 0) for operator in ("ffn", "ib"))
    assert {k: v.shape for k, v in ffn.state_dict().items()} == {k: v.shape for k, v in ib.state_dict().items()}


@pytest.mark.parametrize(("stride", "shape"), [(4, (32, 48)), (8, (16, 24)), (16, (8, 12)), (32, (4, 6))])
def test_paths_lead_to_any_stride(stride: int, shape: tuple[int, int]) -> None:
    path = Path(Level(8, 16), Level(24, stride))
    assert path(torch.randn(1, 8, 8, 12), shape).shape == (1, 24, *shape)
    assert sum(isinstance(m, nn.ReLU) for m in path.modules()) == 0


def test_fusion_is_the_sum_of_all_branches() -> None:
    """Of one branch it is ReLU; with silent paths each branch keeps to itself."""
    maps = [torch.randn(1, 8, 16, 16), torch.randn(1, 16, 8, 8)]
    assert torch.equal(Fusion([Level(8, 4)])(maps[:1])[0], maps[0].relu())
    fusion = Fusion([Level(8, 4), Level(16, 8)]).eval()
    for path in fusion.modules():
        if isinstance(path, Path):
            nn.init.zeros_(path.layers[-1][1].weight)
    assert all(torch.equal(a, b.relu()) for a, b in zip(fusion(maps), maps, strict=True))


def test_every_level_sees_every_branch() -> None:
    encoder = HRNet(width=8, depth=(1, 1, 1)).eval()
    for level in encoder(torch.randn(1, 3, 64, 64)):
        encoder.zero_grad()
        level.sum().backward(retain_graph=True)
        assert all(p.grad is not None and p.grad.any() for p in encoder.branches[-1].parameters())


def test_numbers_of_parallel_branches() -> None:
    """Stage s has s + 1 branches of basic blocks, 18 w^2 + 4 w each."""
    blocks = sum(18 * w * w + 4 * w for stage in range(3) for w in (8 * 2**r for r in range(stage + 1)))
    assert parameters(HRNet(width=8, depth=(1, 1, 1)).branches) == blocks
