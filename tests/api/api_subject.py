"""A user's own network and data for the tests of the public functions, and a measuring protocol without patience."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from zoo import UNet, conv_bn, image

import mtnas
from mtnas.api.profiling import DeviceProfile
from mtnas.data.base import Dataset
from mtnas.data.config import DataConfig
from mtnas.elastic.model import ElasticModel
from mtnas.measure.config import MeasureConfig
from mtnas.train.config import TrainConfig

SIDE = 32
TASKS = ["segmentation", "edges"]
QUICK = MeasureConfig(
    rounds=5,
    max_rounds=8,
    round_ms=1.5,
    round_runs=3,
    warmup_ms=8,
    warmup_cap_ms=60,
    samples=10,
    retries=0,
    processes=1,
    certify_rounds=5,
)
TRAIN = TrainConfig(epochs=1, batch_size=16, precision="float32", channels_last="never")


def user_model() -> nn.Module:
    """Skips that are concatenated, transposed convolutions, in training mode, as a user leaves it after training."""
    torch.manual_seed(3)
    model = UNet()
    model.segmentation = nn.Conv2d(16, 8, 1)
    return model.train()


def user_data() -> Dataset:
    return mtnas.open_data(DataConfig(height=SIDE, width=SIDE, train=48, calibrate=32, select=32, report=32))


def example() -> Tensor:
    return image(1, SIDE)


@dataclass(frozen=True)
class Ready:
    """What a user has before searching: `elastic` is trained for a moment, `profile` is its profile."""

    data: Dataset
    elastic: ElasticModel
    profile: DeviceProfile


class Chain(nn.Module):
    """Two wide convolutions without norm and one output, so that latency follows width."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        first = conv_bn(3, 64, 3, 2) if norm else nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU())
        self.body = nn.Sequential(first, nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU())
        self.depth = nn.Conv2d(64, 1, 1)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        return {"depth": self.depth(self.body(image_BCHW))}


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(before: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Equal to the last bit."""
    after = model.state_dict()
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def modes(model: nn.Module) -> list[bool]:
    return [layer.training for layer in model.modules()]
