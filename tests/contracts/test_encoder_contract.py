"""The exam every row of ENCODERS takes by itself; as part of a network, and exported: `test_encoder_elastic.py`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mtnas.base.errors import JobError
from mtnas.encoders.base import Encoder
from mtnas.encoders.make import make_encoder
from mtnas.encoders.squeeze import SqueezeExcite
from mtnas.encoders.table import ENCODERS, MOST_STAGES, PER_TASK, SIZES

ALLOWED_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid)
#: What makes a transformer; the layers between them quantize like any other.
TRANSFORMER = (nn.Linear, nn.LayerNorm, nn.GELU, nn.ParameterDict)
IMAGE = (2, 3, 64, 64)
#: encoders whose shortcuts between resolutions depend on the strides
PARALLEL = {"hrnet"}


class One(nn.Module):
    """An encoder of one task, seen as one of maps for all."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.levels = encoder, encoder.levels

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        (maps,) = self.encoder(image_BCHW).values()  # type: ignore[attr-defined]
        return maps


def make(name: str, **settings: int) -> nn.Module:
    torch.manual_seed(0)
    made = make_encoder(name, width=settings.pop("width", 16), depth=(1, 2, 1), tasks=["first"], **settings).eval()
    return One(made) if name in PER_TASK else made


@pytest.fixture(params=sorted(ENCODERS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (50, 70)])
def test_levels_tell_the_truth(name: str, size: tuple[int, int]) -> None:
    encoder = make(name)
    maps = encoder(torch.randn(2, 3, *size))
    assert len(maps) == len(encoder.levels) == 3
    for level, features in zip(encoder.levels, maps, strict=True):
        rows, columns = -(-size[0] // level.stride), -(-size[1] // level.stride)
        assert features.shape == (2, level.channels, rows, columns)
    strides = [level.stride for level in encoder.levels]
    assert strides == sorted(strides)


def test_all_widths_are_multiples_of_8(name: str) -> None:
    own_width, _ = SIZES[name]
    for width in (own_width, own_width // 2):
        for module in make(name, width=width).modules():
            if isinstance(module, nn.Conv2d):
                assert module.out_channels % 8 == 0


def test_own_size_is_taken_where_none_is_named(name: str) -> None:
    width, depth = SIZES[name]
    named = make_encoder(name, width=width, depth=depth, tasks=["a"]).state_dict()
    own = make_encoder(name, tasks=["a"]).state_dict()
    assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in named.items()}


def test_output_stride_is_kept(name: str) -> None:
    assert make(name, output_stride=8).levels[-1].stride == 8
    assert [level.stride for level in make(name, output_stride=32).levels] == [4, 8, 16]


@pytest.mark.parametrize("width", [1, 7, 24])
def test_any_width_runs(name: str, width: int) -> None:
    encoder = make(name, width=width)
    channels = [features.shape[1] for features in encoder(torch.randn(IMAGE))]
    assert channels == [level.channels for level in encoder.levels]


def test_strides_past_the_output_stride_are_replaced(name: str) -> None:
    """The map stays as fine as asked, and no parameter changes its shape (a transformer's stem ends at its tokens)."""
    coarse, fine = make(name, output_stride=16), make(name, output_stride=4)
    assert {f.shape[-2:] for f in fine(torch.randn(IMAGE))} == {(16, 16)}
    shapes = [{k: v.shape for k, v in encoder.state_dict().items()} for encoder in (coarse, fine)]
    assert name in PARALLEL or name.startswith("vit") or shapes[0] == shapes[1]


def test_the_same_image_gives_the_same_maps(name: str) -> None:
    encoder, image = make(name), torch.randn(IMAGE)
    assert all(torch.equal(a, b) for a, b in zip(encoder(image), encoder(image), strict=True))


def test_every_convolution_is_followed_by_batch_norm_and_has_no_bias(name: str) -> None:
    """But for those of gates, which work on one vector per image."""
    encoder = make(name)
    gates = [part for gate in encoder.modules() if isinstance(gate, SqueezeExcite) for part in gate.modules()]
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d) and not any(m is part for part in gates)]
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(convolutions) == len(norms)
    assert all(convolution.bias is None for convolution in convolutions)


def test_activations_suit_8_bit(name: str) -> None:
    kinds = {type(m) for m in make(name).modules() if not list(m.children()) and not isinstance(m, nn.ModuleList)}
    allowed = {nn.Conv2d, nn.BatchNorm2d, nn.Identity, nn.MaxPool2d, *ALLOWED_ACTIVATIONS}
    assert kinds <= (allowed | {*TRANSFORMER} if name.startswith("vit") else allowed)


def test_any_number_of_image_channels(name: str) -> None:
    assert make(name, in_channels=1)(torch.randn(2, 1, 32, 32))[0].shape[0] == 2


def test_gradients_reach_every_parameter(name: str) -> None:
    encoder = make(name).train()
    sum(features.square().sum() for features in encoder(torch.randn(IMAGE))).backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_every_row_has_a_size() -> None:
    assert set(SIZES) == set(ENCODERS) >= set(MOST_STAGES)
    for name, (width, blocks) in SIZES.items():
        assert width % 8 == 0 and all(count >= 1 for count in blocks) and len(blocks) <= MOST_STAGES.get(name, 4)


def test_more_stages_than_there_are_is_refused() -> None:
    with pytest.raises(JobError, match="at most 4 stages in mobilenet_v3"):
        make_encoder("mobilenet_v3", depth=(1, 1, 1, 1, 1))


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(JobError, match="did you mean 'resnet'"):
        make_encoder("resnett", width=16, depth=(1,))
