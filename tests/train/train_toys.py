"""Small data, tasks and networks for the tests of training; also run as a script, to be killed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mtnas.data.base import Batch, Split
from mtnas.tasks.base import Task, TaskSpec, make_task
from mtnas.train.build import build_model
from mtnas.train.config import FinetuneConfig, ModelConfig, TrainConfig
from mtnas.train.finetune import finetune

SIZE = 32
SPECS = (TaskSpec("segmentation", "segmentation", 3), TaskSpec("depth", "depth", 1, weight=0.5))
TARGETS = {spec.name: (spec.type, spec.channels) for spec in SPECS}
MODEL = ModelConfig(width=16, blocks=(1, 1), head_width=16, head_convs=1)


class ToySplit(Split):
    """Images whose labels can be read off their colours."""

    name = "train"

    def __init__(self, count: int = 24, seed: int = 0, bad: frozenset[int] = frozenset()) -> None:
        rng = np.random.default_rng(seed)
        coarse = rng.standard_normal((count, 3, 4, 4)).astype(np.float32)
        self.images_NCHW = torch.from_numpy(coarse.repeat(SIZE // 4, 2).repeat(SIZE // 4, 3))
        self.bad = bad

    def __len__(self) -> int:
        return len(self.images_NCHW)

    def batch(self, indices: Sequence[int] | np.ndarray, augment: np.random.Generator | None = None) -> Batch:
        image = self.images_NCHW[torch.as_tensor(np.asarray(indices))].clone()
        if augment is not None and augment.random() < 0.5:
            image = image.flip(3)
        depth = image.mean(1, keepdim=True).exp()
        if self.bad & {int(i) for i in indices}:
            depth[:] = torch.nan
        return image, {"segmentation": image.argmax(1), "depth": depth}


def toy_tasks() -> dict[str, Task]:
    return {spec.name: make_task(spec) for spec in SPECS}


def toy_net(seed: int = 0) -> nn.Module:
    return build_model(MODEL, TARGETS, seed=seed)


def plain_config(**settings: object) -> FinetuneConfig:
    chosen = {"epochs": 2, "batch_size": 4, "precision": "float32", "channels_last": "never", **settings}
    return FinetuneConfig(**chosen)


def sandwich_config(**settings: object) -> TrainConfig:
    chosen = {"epochs": 2, "batch_size": 4, "precision": "float32", "channels_last": "never", **settings}
    return TrainConfig(**chosen)


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Equal to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def long_finetune(out: Path, precision: str) -> dict[str, torch.Tensor]:
    """A run of a few hundred short steps with a teacher, in the given precision."""
    model = toy_net()
    config = plain_config(epochs=30, precision=precision, channels_last="always", checkpoint_seconds=0.05)
    finetune(model, toy_tasks(), ToySplit(), config, out, teacher=toy_net(1), seed=3)
    return model.state_dict()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "finetune":
        long_finetune(Path(sys.argv[2]), sys.argv[3])
