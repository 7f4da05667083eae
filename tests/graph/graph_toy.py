"""A network with everything that makes cutting hard, and its groups written by hand.

`Toy(a, b, c, d)` can be built at any widths, so the reference of a cut is a plain network of that size with the
weights sliced by `axis_slices`: nothing of the graph room is used to make it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
import zoo
from torch import Tensor, nn

from mtnas.base.groups import ChannelGroup, Member, Selection, axis_slices

SIDE = 16
FULL = (16, 12, 10, 16)


class Toy(nn.Module):
    """Widths: a = trunk, b = half of a split, c = hidden of the classifier, d = units of 4 blocks (d channels)."""

    def __init__(self, a: int, b: int, c: int, d: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, a, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(a)
        self.depthwise = nn.Conv2d(a, a, 3, 1, 1, groups=a, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(a)
        self.scale = nn.Parameter(torch.ones(a, 1, 1))
        self.act = nn.PReLU(a)
        self.twin = nn.Conv2d(a, b + 12, 1)  # first b positions are one group, the last 12 stay
        self.pre = nn.BatchNorm2d(b + 12)  # before its convolution: cannot be folded
        self.mixed = nn.Conv2d(b, d, 1)
        self.blocks = nn.Conv2d(d, d, 3, 1, 1, groups=4, bias=False)
        self.blocks_norm = nn.BatchNorm2d(d)
        self.group_norm = nn.GroupNorm(4, d)
        self.up = nn.ConvTranspose2d(d, d, 2, 2, groups=4, bias=False)
        self.up_norm = nn.BatchNorm2d(d)
        self.up_depthwise = nn.ConvTranspose2d(a, a, 2, 2, groups=a)
        self.up_depthwise_norm = nn.BatchNorm2d(a)
        self.layer_norm = nn.LayerNorm(12)
        self.hidden = nn.Linear(a * 16, c)
        self.hidden_norm = nn.BatchNorm1d(c)
        self.label = nn.Linear(c, 5)
        self.token = nn.Linear(a, c, bias=False)
        self.shuffle = nn.Conv2d(12, 8, 1)
        self.depth = nn.Conv2d(a + d + 2, 2, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        batch = image.shape[0]
        x = F.relu(self.stem_norm(self.stem(image)))
        x = self.act(x + F.relu6(self.depthwise_norm(self.depthwise(x)))) * self.scale
        left, right = torch.split(self.pre(self.twin(x)), [self.twin.out_channels - 12, 12], 1)
        right = self.layer_norm(right.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        right = F.pixel_shuffle(self.shuffle(right), 2)
        y = self.group_norm(self.blocks_norm(self.blocks(self.mixed(F.relu(left)))))
        channels = y.shape[1]
        y = y.view(batch, 4, channels // 4, *y.shape[2:]).transpose(1, 2).reshape(batch, channels, *y.shape[2:])
        y = y.view(batch, channels // 4, 4, *y.shape[2:]).transpose(1, 2).reshape(batch, channels, *y.shape[2:])
        y = F.relu(self.up_norm(self.up(y)))
        z = self.up_depthwise_norm(self.up_depthwise(x))
        dense = torch.cat([z, y, right], 1)
        tokens = self.token(x.flatten(2).transpose(1, 2))  # a linear layer on (B, H*W, C)
        hidden = F.relu(self.hidden_norm(self.hidden(F.adaptive_avg_pool2d(x, 4).flatten(1)))) + tokens.mean(1)
        odd = F.interpolate(self.depth(dense), size=(7, 9), mode="bilinear", align_corners=False)
        return {
            "depth": F.interpolate(odd, size=image.shape[-2:], mode="bilinear", align_corners=False),
            "label": self.label(hidden),
        }


def plain(name: str, axis: int, size: int, role: str = "in", start: int = 0, repeat: int = 1) -> Member:
    rows = tuple(tuple(start + u * repeat + k for k in range(repeat)) for u in range(size))
    return Member(name, axis, rows, role)


def tied(name: str, axis: int, units: int, blocks: int, role: str = "in", start: int = 0) -> Member:
    """Unit u is channel u of every block."""
    return Member(name, axis, tuple(tuple(start + b * units + u for b in range(blocks)) for u in range(units)), role)


def norm(name: str, make: type | object, *args: int) -> list[Member]:
    keys = ("weight", "bias", "running_mean", "running_var")
    return [make(f"{name}.{key}", 0, *args, role="norm") for key in keys]  # type: ignore[operator]


def toy_groups() -> tuple[ChannelGroup, ...]:
    a, b, c, d = FULL
    trunk = [
        plain("stem.weight", 0, a, "out"),
        *norm("stem_norm", plain, a),
        plain("depthwise.weight", 0, a),
        *norm("depthwise_norm", plain, a),
        plain("scale", 0, a),
        plain("act.weight", 0, a),
        plain("twin.weight", 1, a),
        plain("up_depthwise.weight", 0, a),
        plain("up_depthwise.bias", 0, a),
        *norm("up_depthwise_norm", plain, a),
        plain("hidden.weight", 1, a, repeat=16),
        plain("token.weight", 1, a),
        plain("depth.weight", 1, a),
    ]
    half = [
        plain("twin.weight", 0, b, "out"),
        plain("twin.bias", 0, b, "out"),
        *norm("pre", plain, b),
        plain("mixed.weight", 1, b),
    ]
    hidden = [
        plain("hidden.weight", 0, c, "out"),
        plain("hidden.bias", 0, c, "out"),
        *norm("hidden_norm", plain, c),
        plain("token.weight", 0, c, "out"),
        plain("label.weight", 1, c),
    ]
    units = d // 4
    blocks = [
        tied("mixed.weight", 0, units, 4, "out"),
        tied("mixed.bias", 0, units, 4, "out"),
        tied("blocks.weight", 0, units, 4, "out"),
        plain("blocks.weight", 1, units),
        *norm("blocks_norm", tied, units, 4),
        *[tied(f"group_norm.{key}", 0, units, 4, "norm") for key in ("weight", "bias")],
        tied("up.weight", 0, units, 4),
        plain("up.weight", 1, units, "out"),
        *norm("up_norm", tied, units, 4),
        tied("depth.weight", 1, units, 4, start=a),
    ]
    both = ("depth", "label")
    return (
        ChannelGroup("stem", a, tuple(trunk), both),
        ChannelGroup("twin", b, tuple(half), ("depth",)),
        ChannelGroup("hidden", c, tuple(hidden), ("label",)),
        ChannelGroup("mixed", units, tuple(blocks), ("depth",)),
        ChannelGroup("depth", 2, (plain("depth.weight", 0, 2, "out"),), ("depth",), "is output 'depth'"),
    )


def toy() -> Toy:
    model = Toy(*FULL)
    zoo.randomise(model, seed=3)
    return model.eval()


def small_toy(model: Toy, selection: Selection) -> Toy:
    """The reference: a toy of the selected widths with sliced weights."""
    widths = selection.widths(toy_groups())
    state = sliced_state(model, selection)
    small = Toy(widths["stem"], widths["twin"], widths["hidden"], 4 * widths["mixed"])
    small.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    return small.eval()


def sliced_state(model: nn.Module, selection: Selection) -> dict[str, np.ndarray]:
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    slices = axis_slices(toy_groups(), selection, {name: array.shape for name, array in state.items()})
    for name, axes in slices.items():
        for axis, keep in axes.items():
            state[name] = np.take(state[name], keep, axis)
    return state


def image(batch: int = 1, seed: int = 0) -> Tensor:
    return zoo.image(batch, SIDE, seed)
