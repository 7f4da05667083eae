"""Encoders in published proportions have the published numbers of parameters, and the names of the public weights."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from mtnas.encoders.base import Step, multiple_of_8, steps_of
from mtnas.encoders.flat import Place, Row
from mtnas.encoders.make import make_encoder
from mtnas.encoders.mobilenet_v3 import InvertedResidual
from mtnas.encoders.residual import BasicBlock, Bottleneck
from mtnas.encoders.squeeze import SqueezeExcite


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "classes", "with_classifier", "entries"),
    [
        ("resnet18", 512 * 1000 + 1000, 11_689_512, 122),
        ("resnet34", 512 * 1000 + 1000, 21_797_672, 218),
        ("resnet50", 2048 * 1000 + 1000, 25_557_032, 320),
        ("mobilenet_v2", 1280 * 1000 + 1000, 3_504_872, 314),
        ("mobilenet_v3", 960 * 1280 + 1280 + 1280 * 1000 + 1000, 5_483_032, 312),
    ],
)
def test_published_numbers(name: str, classes: int, with_classifier: int, entries: int) -> None:
    """All numbers of the public ImageNet weights but the classifier's, in as many tensors."""
    encoder = make_encoder(name, output_stride=32)
    assert parameters(encoder) + classes == with_classifier
    assert len(encoder.state_dict()) + (4 if name == "mobilenet_v3" else 2) == entries


def basic(blocks: tuple[int, ...]) -> int:
    """Two 3x3 convolutions and two norms per block; a 1x1 projection and its norm where a stage halves the map."""
    widths = [64 * 2**stage for stage in range(4)]
    total = 3 * 49 * 64 + 2 * 64
    total += sum(count * (18 * w * w + 4 * w) for count, w in zip(blocks, widths, strict=True))
    return total + sum(a * b + 2 * b - 9 * b * (b - a) for a, b in pairwise(widths))


def bottleneck(blocks: tuple[int, ...]) -> int:
    """1x1 from four times the width, 3x3, 1x1 back, three norms; the first block of a stage reads another width."""
    total, before = 3 * 49 * 64 + 2 * 64, 64
    for count, w in zip(blocks, (64, 128, 256, 512), strict=True):
        total += count * (17 * w * w + 12 * w) - (4 * w - before) * w + before * 4 * w + 8 * w
        before = 4 * w
    return total


def test_closed_forms() -> None:
    assert parameters(make_encoder("resnet18")) == basic((2, 2, 2, 2)) == 11_176_512
    assert parameters(make_encoder("resnet34")) == basic((3, 4, 6, 3)) == 21_284_672
    assert parameters(make_encoder("resnet50")) == bottleneck((3, 4, 6, 3)) == 23_508_032
    assert parameters(make_encoder("mobilenet_v2")) == inverted() == 2_223_872


def inverted() -> int:
    """Rows (t, c, n) of MobileNetV2's table 2: 1x1, 3x3 depthwise, 1x1, three norms; stem and last convolution."""
    table = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
    total, before = 27 * 32 + 64, 32
    for t, c, n in table:
        for _ in range(n):
            hidden = t * before
            total += (before * hidden + 2 * hidden if t > 1 else 0) + 11 * hidden + hidden * c + 2 * c
            before = c
    return total + 320 * 1280 + 2 * 1280


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet18", ("conv1.weight", "bn1.running_var", "layer2.0.downsample.0.weight", "layer4.1.bn2.bias")),
        ("resnet50", ("layer1.0.downsample.1.weight", "layer3.5.conv3.weight", "layer4.2.bn3.num_batches_tracked")),
        (
            "mobilenet_v2",
            ("features.0.0.weight", "features.1.conv.1.weight", "features.17.conv.3.bias", "features.18.1.bias"),
        ),
        ("mobilenet_v3", ("features.4.block.2.fc1.bias", "features.15.block.3.1.weight", "features.16.0.weight")),
    ],
)
def test_names_of_the_public_weights(name: str, keys: tuple[str, ...]) -> None:
    assert set(keys) <= set(make_encoder(name).state_dict())


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_residual_blocks(block: type[BasicBlock | Bottleneck]) -> None:
    """With the inner path at zero, a block is ReLU of its input."""
    made = block(8 * block.growth, 8, 1, (1, 1)).eval()
    last = made.bn3 if isinstance(made, Bottleneck) else made.bn2
    nn.init.zeros_(last.weight)
    x = torch.randn(2, 8 * block.growth, 5, 5)
    assert torch.equal(made(x), x.relu())
    assert isinstance(made.downsample, nn.Identity)
    assert not isinstance(block(8, 8, 2, (1, 1)).downsample, nn.Identity)


def test_dilation_takes_over_from_strides() -> None:
    assert steps_of(4, 32) == tuple(Step(4 * 2**stage, 2, 1, 1) for stage in range(4))
    assert steps_of(4, 8)[2:] == (Step(8, 1, 1, 2), Step(8, 1, 2, 4))
    convolutions = [m for m in make_encoder("resnet50", output_stride=8).layer4.modules() if isinstance(m, nn.Conv2d)]
    assert [m.dilation for m in convolutions if m.kernel_size == (3, 3)] == [(2, 2), (4, 4), (4, 4)]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
def test_a_dilated_encoder_agrees_with_the_strided_one_where_their_grids_meet(name: str) -> None:
    """Same weights: a strided map is every other position of the dilated one, away from the border."""
    torch.manual_seed(0)
    strided = make_encoder(name, width=8, depth=(1, 1, 2), output_stride=16).eval()
    dilated = make_encoder(name, width=8, depth=(1, 1, 2), output_stride=8).eval()
    dilated.load_state_dict(strided.state_dict())
    image = torch.randn(1, 3, 256, 256)
    coarse, fine = strided(image)[-1], dilated(image)[-1][..., ::2, ::2]
    torch.testing.assert_close(fine[..., 4:-4, 4:-4], coarse[..., 4:-4, 4:-4])


@pytest.mark.parametrize(
    ("channels", "expected"), [(1, 8), (12, 16), (19, 24), (18, 24), (32, 32), (91, 88), (168, 168)]
)
def test_multiples_of_8(channels: int, expected: int) -> None:
    assert multiple_of_8(channels) == expected >= 0.9 * channels


def test_narrow_and_deep_versions_follow_the_table() -> None:
    narrow = make_encoder("mobilenet_v3", width=8, output_stride=32)
    assert [level.channels for level in narrow.levels] == [16, 24, 56, 6 * 80]
    deep = make_encoder("mobilenet_v2", depth=(2, 3, 8, 4), output_stride=32)
    assert len(deep.features) == 20 and deep.levels == make_encoder("mobilenet_v2", output_stride=32).levels


def test_squeeze_excite_gates_by_the_mean() -> None:
    """A gate of the mean: open by half where its layers are zero, and blind to positions."""
    gate, x = SqueezeExcite(8, 8), torch.randn(2, 8, 4, 6)
    shuffled = gate(x.flip(2, 3)).flip(2, 3)
    torch.testing.assert_close(gate(x), shuffled)
    for layer in (gate.fc1, gate.fc2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    torch.testing.assert_close(gate(x), x / 2)


def test_blocks_without_expansion_have_no_first_convolution() -> None:
    def convolutions(hidden: int) -> int:
        block = InvertedResidual(Place(16), Row(3, hidden, 16))
        return sum(isinstance(module, nn.Conv2d) for module in block.modules())

    assert (convolutions(16), convolutions(32)) == (2, 3)
