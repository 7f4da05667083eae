"""The networks of the predictor benchmark: three tasks each, images of 96x128, about a million parameters."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtnas.base.seeds import derive_seed
from mtnas.encoders.make import make_encoder
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet

HEIGHT, WIDTH = 96, 128
TASKS = {"segmentation": 13, "depth": 1, "normals": 3}


def encoder_fpn(encoder: str, width: int, depth: tuple[int, ...], head_width: int) -> nn.Module:
    """A shipped encoder with one feature pyramid a task."""
    body = make_encoder(encoder, width=width, depth=depth)
    levels = [level.channels for level in body.levels]
    heads = {
        name: make_head("fpn", level_channels=levels, channels=channels, width=head_width)
        for name, channels in TASKS.items()
    }
    return MultiTaskNet(body, heads)


def conv(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch-norm, ReLU."""
    plain = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
    return nn.Sequential(plain, nn.BatchNorm2d(c_out), nn.ReLU())


class Up(nn.Module):
    """Transposed convolution to twice the size, the skip concatenated, one convolution."""

    def __init__(self, c_in: int, c_skip: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(c_in, c_skip, 2, 2)
        self.fuse = conv(2 * c_skip, c_skip)

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        fused: Tensor = self.fuse(torch.cat([self.up(x_BCHW), skip_BCHW], 1))
        return fused


class UNet(nn.Module):
    """A network of nobody's package: four resolutions, concatenating skips, three small heads on the finest map."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 160)) -> None:
        super().__init__()
        first = conv(3, widths[0], 2)
        rest = [nn.Sequential(conv(a, b, 2), conv(b, b)) for a, b in pairwise(widths)]
        self.down = nn.ModuleList([first, *rest])
        self.up = nn.ModuleList([Up(b, a) for a, b in reversed(list(pairwise(widths)))])
        heads = {
            name: nn.Sequential(conv(widths[0], widths[0]), nn.Conv2d(widths[0], channels, 1))
            for name, channels in TASKS.items()
        }
        self.heads = nn.ModuleDict(heads)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps, x_BCHW = [], image
        for stage in self.down:
            x_BCHW = stage(x_BCHW)
            maps.append(x_BCHW)
        x_BCHW = maps.pop()
        for stage, skip_BCHW in zip(self.up, reversed(maps)):
            x_BCHW = stage(x_BCHW, skip_BCHW)
        return {
            name: F.interpolate(head(x_BCHW), scale_factor=2.0, mode="bilinear", align_corners=False)
            for name, head in self.heads.items()
        }


SPACES: dict[str, Callable[[], nn.Module]] = {
    "resnet + fpn": lambda: encoder_fpn("resnet", 32, (1, 2, 2, 2), 64),
    "mobilenet + fpn": lambda: encoder_fpn("mobilenet", 32, (1, 2, 2, 2), 64),
    "unseen u-net": UNet,
}


def build(space: str) -> nn.Module:
    """The full network of a space, with weights from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "bench", space))
        return SPACES[space]().eval()


def image() -> Tensor:
    """One random image (1,3,H,W)."""
    return torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
