"""Networks with blocks that can be left out, and networks whose blocks only look like it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import zoo
from torch import Tensor, nn

from mtnas.encoders.make import make_encoder
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet


def own(encoder_name: str) -> nn.Module:
    """Our encoder with two dense heads; stages of one, two and three blocks."""
    with torch.random.fork_rng(devices=[]):
        encoder = make_encoder(encoder_name, width=16, depth=(1, 2, 3))
        channels = [level.channels for level in encoder.levels]
        heads = {
            task: make_head("fpn", level_channels=channels, channels=count, width=16, convs=1)
            for task, count in (("segmentation", 5), ("depth", 1))
        }
        model = MultiTaskNet(encoder, heads)
    zoo.randomise(model)
    return model.eval()


OWN_BLOCKS = {
    "encoder.stages.1/depth": ("encoder.stages.1.1",),
    "encoder.stages.2/depth": ("encoder.stages.2.1", "encoder.stages.2.2"),
}
#: An attention and an MLP per block of a stage.
VIT_BLOCKS = {
    f"encoder.stages.{stage}/depth": tuple(f"encoder.stages.{stage}.{part}" for part in range(2 * (stage + 1)))
    for stage in range(3)
}
#: Network -> depth choice -> its blocks.
BLOCKS: dict[str, dict[str, tuple[str, ...]]] = {
    "resnet": OWN_BLOCKS,
    "vit": VIT_BLOCKS,
    "mobilenet": OWN_BLOCKS,
    "residual": {"stages/depth": ("stages.0",), "stages/depth2": ("stages.2",)},
    "depthwise": {"blocks/depth": ("blocks.0",), "blocks/depth2": ("blocks.2",)},
    "attention": {"blocks/depth": ("blocks.0", "blocks.1")},
    "stacked": {"fine/depth": ("fine.0", "fine.1", "fine.2"), "coarse/depth": ("coarse.0", "coarse.1")},
}


def network(name: str) -> nn.Module:
    return own(name) if name in ("resnet", "mobilenet", "vit") else zoo.build(name)


# --- blocks that only look like it ------------------------------------------------------------------------------------


class Plain(nn.Module):
    """Equal shapes, but nothing of the input survives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = zoo.conv_bn(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Residual(Plain):
    """A block that may be left out."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class NormAfter(Plain):
    """The sum is normalised: the input does not come through as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.conv(x))


class Stochastic(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) * torch.rand(1)


class Counting(Plain):
    """Counts how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return x + self.conv(x)


class InPlace(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu_() + self.conv(x)


class Around(nn.Module):
    """stem -> block -> activation -> head, and beside it a branch in which all is well."""

    def __init__(self, block: nn.Module, inplace: bool = False) -> None:
        super().__init__()
        self.stem = zoo.conv_bn(3, 16, 3, 2)
        self.block: Any = block
        self.act = nn.Hardswish(inplace=inplace)
        self.depth = nn.Conv2d(16, 1, 1)
        self.side = nn.Sequential(zoo.conv_bn(3, 16), nn.Conv2d(16, 1, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"depth": self.depth(self.act(self.middle(self.stem(image)))), "side": self.side(image)}

    def middle(self, x: Tensor) -> Tensor:
        return self.block(x)


class Shared(Around):
    """A layer outside has the weights of the block."""

    def __init__(self) -> None:
        super().__init__(Residual())
        self.twin = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.twin.weight = self.block.conv[0].weight

    def middle(self, x: Tensor) -> Tensor:
        return self.twin(self.block(x))


class Pooled(Around):
    def middle(self, x: Tensor) -> Tensor:
        return self.block(F.avg_pool2d(x, 2))


class Twice(Around):
    def __init__(self) -> None:
        super().__init__(Residual())

    def middle(self, x: Tensor) -> Tensor:
        return self.block(self.block(x))


class ReadFromOutside(Around):
    """The forward asks the block for its layers."""

    def __init__(self) -> None:
        super().__init__(Residual())

    def middle(self, x: Tensor) -> Tensor:
        return F.relu(self.block(x)) * self.block.conv[0].weight.mean()


class WrittenLater(Around):
    """An activation in place writes to what the block returned, while another head reads the block's input."""

    def __init__(self) -> None:
        super().__init__(Residual(), inplace=True)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        y = self.act(self.block(x))
        return {"depth": self.depth(y), "other": self.depth(x)}


class AtTheEnd(nn.Module):
    """The block makes an output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = zoo.conv_bn(3, 16, 3, 2)
        self.hidden = zoo.conv_bn(16, 16)
        self.block = Residual()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"depth": self.block(self.hidden(self.stem(image)))}


#: Network -> words of the reason why `block` stays. The first two are found only when the user names the block.
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "plain": (lambda: Around(Plain()), "does not reach its output by additions"),
    "norm_after": (lambda: Around(NormAfter()), "does not reach its output by additions"),
    "stochastic": (lambda: Around(Stochastic()), "other numbers each time"),
    "counting": (lambda: Around(Counting()), "changes its own runs"),
    "in_place": (lambda: Pooled(InPlace()), "changes its input in place"),
    "shared": (Shared, "shares weights with twin.weight"),
    "twice": (Twice, "runs 2 times"),
    "read_from_outside": (ReadFromOutside, "breaks the forward"),
    "written_later": (WrittenLater, "changes its output in place"),
    "at_the_end": (AtTheEnd, "is output 'depth'"),
}
NAMED_ONLY = ("plain", "norm_after")


def refused(name: str) -> nn.Module:
    """One of the networks with a look-alike."""
    with torch.random.fork_rng(devices=[]):
        model = REFUSED[name][0]()
    zoo.randomise(model)
    return model.eval()
