"""The exam every row of HEADS takes by itself; as part of a network, and exported: `test_head_elastic.py`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from mtnas.base.errors import JobError
from mtnas.heads.make import make_head, make_joint_head
from mtnas.heads.table import DENSE_HEADS, HEADS, JOINT_HEADS

LEVELS = (16, 24, 32)


def maps(size: tuple[int, int] = (64, 64), channels: tuple[int, ...] = LEVELS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    strides = (4, 8, 16)
    return [
        torch.randn(2, c, -(-size[0] // s), -(-size[1] // s), generator=generator)
        for c, s in zip(channels, strides, strict=True)
    ]


class One(nn.Module):
    """A joint decoder of two tasks, seen as the head of the first."""

    def __init__(self, joint: nn.Module) -> None:
        super().__init__()
        self.joint = joint

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        first, second = self.joint(maps, size).values()
        return first if self.joint.training is False else first + second.mean()


def make(name: str, channels: int = 5, width: int = 16, levels: tuple[int, ...] = LEVELS) -> nn.Module:
    torch.manual_seed(0)
    if name in JOINT_HEADS:
        both = {"first": channels, "second": 2}
        return One(make_joint_head(name, level_channels=levels, channels=both, width=width)).eval()
    return make_head(name, level_channels=levels, channels=channels, width=width).eval()


@pytest.fixture(params=sorted({**HEADS, **JOINT_HEADS}))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (50, 70)])
@pytest.mark.parametrize("channels", [1, 13])
def test_output_shape(name: str, size: tuple[int, int], channels: int) -> None:
    output = make(name, channels)(maps(size), size)
    assert output.shape == ((2, channels, *size) if name in DENSE_HEADS | set(JOINT_HEADS) else (2, channels))


def test_output_is_raw(name: str) -> None:
    """No activation at the end: the output takes both signs."""
    output = make(name)(maps(), (64, 64))
    assert output.min() < 0 < output.max()


@pytest.mark.parametrize("width", [1, 7, 24])
def test_any_width_runs(name: str, width: int) -> None:
    levels = (3, width, 5)
    output = make(name, width=width, levels=levels)(maps(channels=levels), (64, 64))
    assert torch.isfinite(output).all()


def test_has_real_capacity(name: str) -> None:
    """At least two hidden layers, so that width buys quality."""
    layers = [module for module in make(name).modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) >= 3


def test_activations_suit_8_bit(name: str) -> None:
    kinds = {type(module) for module in make(name).modules() if not list(module.children())}
    assert kinds <= {nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.Identity, nn.ReLU, nn.ReLU6, nn.Sigmoid}


def test_gradients_reach_every_parameter(name: str) -> None:
    head = make(name).train()
    head(maps(), (64, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_the_same_maps_give_the_same_output(name: str) -> None:
    head = make(name)
    assert torch.equal(head(maps(), (64, 64)), head(maps(), (64, 64)))


@pytest.mark.parametrize("joint", sorted(JOINT_HEADS))
def test_joint_decoders_answer_all_their_tasks_in_order(joint: str) -> None:
    tasks = {"z": 3, "a": 1, "m": 7}
    for chosen in (tasks, {"a": 1}):
        made = make_joint_head(joint, level_channels=LEVELS, channels=chosen, width=8).eval()
        outputs = made(maps(), (64, 64))
        assert {task: output.shape[1] for task, output in outputs.items()} == chosen and list(outputs) == list(chosen)


def test_joint_and_single_heads_have_different_names() -> None:
    assert not set(JOINT_HEADS) & set(HEADS)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(JobError, match="did you mean 'pooled'"):
        make_head("pool", level_channels=(8,), channels=1, width=8)
