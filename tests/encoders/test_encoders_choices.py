"""Kernels and attention as settings: one for all blocks, or each of them side by side in every block."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtnas.base.errors import JobError
from mtnas.encoders.make import make_encoder
from mtnas.encoders.table import KERNELS, OPTIONS
from mtnas.encoders.uib import UniversalBottleneck
from mtnas.forks.one_of import OneOf

KERNELED = [name for name, options in OPTIONS.items() if "kernel" in options]


def encoder(name: str, **options: int | str) -> nn.Module:
    torch.manual_seed(0)
    return make_encoder(name, width=16, depth=(1, 2, 1), options=options).eval()


def kernels(module: nn.Module) -> list[int]:
    """Sizes of all depthwise kernels, in order."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return [layer.kernel_size[0] for layer in layers if layer.groups == layer.in_channels > 1]


@pytest.mark.parametrize("name", KERNELED)
def test_one_kernel_for_all_blocks_from_stride_4_on(name: str) -> None:
    own, opening = encoder(name), int(name in ("mobilenet_v2", "mobilenet_v3"))
    for kernel in KERNELS:
        made = encoder(name, kernel=kernel)
        assert kernels(made) == [3] * opening + [kernel] * (len(kernels(own)) - opening)
        assert list(made.state_dict()) == list(own.state_dict())  # published weights of that size load by name
        image = torch.randn(1, 3, 50, 70)
        assert [found.shape for found in made(image)] == [found.shape for found in own(image)]


def test_own_kernels_are_the_published_ones() -> None:
    assert kernels(encoder("mobilenet_v3")) == [3, 3, 5, 5, 3]
    assert {*kernels(encoder("mobilenet_v2")), *kernels(encoder("uib"))} == {3}


@pytest.mark.parametrize("name", KERNELED)
def test_a_choice_holds_weights_and_norms_of_its_own_for_every_kernel(name: str) -> None:
    """And each of its options alone is the encoder of that kernel."""
    made = encoder(name, kernel="choice")
    forks = [module for module in made.modules() if isinstance(module, OneOf)]
    assert forks and all(list(fork.options) == ["k3", "k5", "k7"] for fork in forks)
    image = torch.randn(1, 3, 64, 64)
    for kernel in KERNELS:
        for fork in forks:
            fork.default = f"k{kernel}"
        alone = encoder(name, kernel=kernel)
        state = made.state_dict()
        own = {key.replace(f".options.k{kernel}", ""): value for key, value in state.items()}
        alone.load_state_dict({key: own[key] for key in alone.state_dict()})
        assert all(torch.equal(a, b) for a, b in zip(made(image), alone(image), strict=True))


def test_both_depthwise_convolutions_of_a_universal_bottleneck_choose() -> None:
    block = UniversalBottleneck(8, 8, 1, 4, "choice", 0, "choice")
    forks = [name for name, module in block.named_modules() if isinstance(module, OneOf)]
    inner = ["ib.1", "convnext.0", "extra_dw.0", "extra_dw.2"]
    assert forks == ["layers", *(f"layers.options.{name}" for name in inner)]


def test_attention_is_a_choice_in_every_block_of_several_heads() -> None:
    forks = [m for m in encoder("vit", attention="choice").modules() if isinstance(m, OneOf)]
    assert len(forks) == 4 and all(list(fork.options) == ["multi_head", "multi_query"] for fork in forks)
    one_head = make_encoder("vit", width=16, depth=(1,), options={"attention": "choice"})
    assert not any(isinstance(module, OneOf) for module in one_head.modules())


@pytest.mark.parametrize("kernel", [4, 1, "5", "choices"])
def test_other_kernels_are_refused(kernel: int | str) -> None:
    with pytest.raises(JobError, match=r"(?s)one of 3, 5, 7, or choice.*received: " + repr(kernel)):
        make_encoder("mobilenet", options={"kernel": kernel})


def test_a_kernel_for_an_encoder_without_depthwise_convolutions_is_refused() -> None:
    with pytest.raises(JobError, match=r"(?s)an encoder that reads model\.kernel.*mobilenet_v3 or uib"):
        make_encoder("resnet18", options={"kernel": 5})
