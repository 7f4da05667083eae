"""Networks with forks: operators of all kinds, experts, forks in forks, forks in blocks, forks in one decoder."""

from __future__ import annotations

from collections.abc import Callable

import depth_zoo
import torch
import torch.nn.functional as F
import zoo
from torch import Tensor, nn

import mtnas


def depthwise(channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def bottleneck(channels: int, inner: int) -> nn.Sequential:
    """Holds a group of its own: the inner channels."""
    return nn.Sequential(zoo.conv_bn(channels, inner, 1), nn.ReLU(), zoo.conv_bn(inner, channels, 3))


class Gated(nn.Module):
    """A branch that weighs itself by what it sees."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.body = bottleneck(channels, inner)
        self.gate = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))


class Kernels(nn.Module):
    """A choice of kernels between two pointwise convolutions, as in mobile networks."""

    def __init__(self, channels: int = 16, inner: int = 24) -> None:
        super().__init__()
        self.expand = zoo.conv_bn(channels, inner, 1)
        self.depthwise = mtnas.OneOf({f"k{kernel}": depthwise(inner, kernel) for kernel in (3, 7, 5)})
        self.project = zoo.conv_bn(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.depthwise(F.relu(self.expand(x))))


class Forked(nn.Module):
    """stem -> middle -> two heads."""

    def __init__(self, middle: nn.Module, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(zoo.conv_bn(3, 16, 3, 2), nn.ReLU())
        self.middle = middle
        self.depth = nn.Sequential(zoo.conv_bn(16, 12, 3), nn.ReLU(), nn.Conv2d(12, 1, 1))
        self.labels = nn.Sequential(decoder or nn.Identity(), nn.Conv2d(16, 5, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.middle(self.stem(image))
        return {"depth": self.depth(x), "labels": self.labels(x)}


def operators() -> nn.Module:
    """Options with and without parameters, with batch-norm, with groups of their own."""
    options = {
        "wide": bottleneck(16, 32),
        "none": nn.Identity(),
        "pool": nn.AvgPool2d(3, 1, 1),
        "narrow": bottleneck(16, 8),
        "plain": zoo.conv_bn(16, 16, 3),
    }
    return Forked(nn.Sequential(mtnas.OneOf(options), zoo.conv_bn(16, 16)))


def experts() -> nn.Module:
    return Forked(nn.Sequential(mtnas.SumOf([bottleneck(16, 16), Gated(16, 8), bottleneck(16, 12)]), nn.ReLU()))


def kernels() -> nn.Module:
    """A fork inside blocks that may be left out."""
    return Forked(nn.Sequential(Kernels(), Kernels()))


def nested() -> nn.Module:
    inner = mtnas.OneOf({"a": bottleneck(16, 8), "b": bottleneck(16, 16)})
    experts = mtnas.SumOf([bottleneck(16, 8), bottleneck(16, 8)])
    outer = mtnas.OneOf({"fork": nn.Sequential(inner, nn.ReLU()), "sum": experts, "none": nn.Identity()})
    return Forked(nn.Sequential(outer, nn.ReLU()))


def decoder() -> nn.Module:
    """A fork that one task alone owns, and one at the very end of the other task."""
    model = Forked(Kernels(), mtnas.OneOf({"small": bottleneck(16, 8), "large": bottleneck(16, 24)}))
    model.depth.add_module("last", mtnas.OneOf({"none": nn.Identity(), "conv": nn.Conv2d(1, 1, 3, padding=1)}))
    return model


def blocks() -> nn.Module:
    """A fork whose options are residual blocks: it may be left out itself."""
    options = {"one": depth_zoo.Residual(), "two": nn.Sequential(depth_zoo.Residual(), depth_zoo.Residual())}
    return Forked(nn.Sequential(zoo.conv_bn(16, 16), mtnas.OneOf(options), nn.ReLU()))


class Cell(nn.Module):
    """A sum of edges, each with operators of its own: which of them the sum runs in depends on all of them."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()

        def kernel(size: int) -> nn.Module:
            convolution = nn.Conv2d(channels, channels, size, padding=size // 2, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(channels))

        self.one = mtnas.OneOf({"none": nn.Identity(), "k1": kernel(1), "k5": kernel(5)})
        self.other = mtnas.OneOf({"none": nn.Identity(), "pool": nn.AvgPool2d(3, 1, 1), "k3": kernel(3)})

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.one(x) + self.other(x))


def everything() -> nn.Module:
    """All kinds of choices at once: widths, blocks that may be left out, kernels, experts, and any input size."""
    middle = nn.Sequential(Kernels(), mtnas.SumOf([bottleneck(16, 16), Gated(16, 8), bottleneck(16, 12)]), nn.ReLU())
    return Forked(middle, mtnas.OneOf({"none": nn.Identity(), "conv": zoo.conv_bn(16, 16)}))


class Reads(nn.Module):
    """One body, and what each task takes from it."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.body = bottleneck(16, inner)
        self.reads = nn.ModuleDict({task: nn.Conv2d(16, 8, 1) for task in ("labels", "depth")})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.relu(self.body(x))
        return {task: read(x) for task, read in self.reads.items()}


class Named(nn.Module):
    """Branches that give one tensor for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(zoo.conv_bn(3, 16, 3, 2), nn.ReLU())
        self.middle = mtnas.SumOf([Reads(8), Reads(12), Reads(8)])
        self.depth, self.labels = nn.Conv2d(8, 1, 3, padding=1), nn.Conv2d(8, 5, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        found = self.middle(self.stem(image))
        return {"depth": self.depth(found["depth"]), "labels": self.labels(F.relu(found["labels"]))}


ZOO: dict[str, Callable[[], nn.Module]] = {
    "operators": operators,
    "experts": experts,
    "kernels": kernels,
    "nested": nested,
    "decoder": decoder,
    "blocks": blocks,
    "named": Named,
}
#: Network -> fork -> its options, cheapest first.
FORKS: dict[str, dict[str, tuple[str, ...]]] = {
    "operators": {"middle.0": ("none", "pool", "narrow", "plain", "wide")},
    "experts": {"middle.0": ("1", "2", "3")},
    "kernels": {"middle.0.depthwise": ("k3", "k5", "k7"), "middle.1.depthwise": ("k3", "k5", "k7")},
    "nested": {
        "middle.0": ("none", "sum", "fork"),
        "middle.0.options.fork.0": ("a", "b"),
        "middle.0.options.sum": ("1", "2"),
    },
    "decoder": {"middle.depthwise": ("k3", "k5", "k7"), "depth.last": ("none", "conv"), "labels.0": ("small", "large")},
    "blocks": {"middle.1": ("one", "two")},
    "named": {"middle": ("1", "2", "3")},
}


def network(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = everything() if name == "everything" else ZOO[name]()
    zoo.randomise(model)
    return model.eval()
