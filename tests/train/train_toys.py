"""Small data, tasks and networks for the tests of training; also run as a script, to be killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from mtnas.base.progress import Silent, SilentTask
from mtnas.data.base import Batch, Split
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.space.arch import Arch
from mtnas.space.space import Space
from mtnas.tasks.base import Task, TaskSpec, make_task
from mtnas.train.build import build_model
from mtnas.train.config import FinetuneConfig, ModelConfig, TrainConfig
from mtnas.train.loop import train
from mtnas.train.sampling import step_archs

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


class Stop(SilentTask, Silent):
    """Raises at the end of a step, like an interruption."""

    def __init__(self, at: int) -> None:
        self.left = at

    def task(self, title: str, total: int, done: int = 0) -> SilentTask:
        return self if title in ("train", "finetune") else SilentTask()

    def advance(self, steps: int = 1, **fields: float | int | str) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def stopped(out: Path, config: TrainConfig, at: int, elastic: ElasticModel) -> None:
    """Train in this folder, and interrupt it at the end of a step."""
    try:
        train(elastic, toy_tasks(), ToySplit(), config, out, seed=0, progress=Stop(at))
    except KeyboardInterrupt:
        return
    raise AssertionError("the training ended before it was interrupted")


def curve(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "curves.jsonl").read_text().splitlines()]


def stored_step(path: Path) -> int:
    """Steps done in a checkpoint."""
    with safe_open(path, "pt") as stream:
        return json.loads(stream.metadata()["mtnas"])["step"]


def start_and_kill(out: Path, precision: str) -> None:
    """Start a run in a process of its own, and kill it at a random moment after its first steps."""
    process = subprocess.Popen([sys.executable, __file__, str(out), precision])
    try:
        checkpoint = out / "checkpoint.safetensors"
        while not checkpoint.exists() or stored_step(checkpoint) == 0:
            assert process.poll() is None, "the run ended before it was killed"
            time.sleep(0.01)
        time.sleep(float(np.random.default_rng().uniform(0, 0.2)))
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


def plain_config(**settings: object) -> FinetuneConfig:
    chosen = {"epochs": 2, "batch_size": 4, "precision": "float32", "channels_last": "never", **settings}
    return FinetuneConfig(**chosen)


def sandwich_config(**settings: object) -> TrainConfig:
    """Small and exact; sub-networks learn from labels and from the largest one's outputs, unless told otherwise."""
    arithmetic = {"precision": "float32", "channels_last": "never"}
    learned = {"distill_weight": 0.5, "feature_distill": "none"}
    chosen: dict[str, Any] = {"epochs": 2, "batch_size": 4, **arithmetic, **learned, **settings}
    return TrainConfig(**chosen)


def drawn(space: Space, rng: np.random.Generator, config: TrainConfig) -> list[Arch]:
    """The sub-networks of a step beside the largest, in one list."""
    return [arch for alike in step_archs(space, rng, config, space.largest) for arch in alike]


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Equal to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def toy_elastic(seed: int = 0, round_to: int = 4) -> ElasticModel:
    """The toy network, made elastic; calibration images are the split's."""
    elastic = make_elastic(toy_net(seed), torch.randn(2, 3, SIZE, SIZE), round_to=round_to, prove=False)
    split = ToySplit()
    elastic.calibrate_with(lambda: (image for image, _ in split.batches(12)))
    return elastic


def long_train(out: Path, precision: str) -> dict[str, torch.Tensor]:
    """A sandwich run of sixty short steps in the given precision; channels are sorted before every sixth."""
    elastic = toy_elastic()
    arithmetic = {"precision": precision, "channels_last": "always"}
    config = sandwich_config(epochs=10, resort_epochs=1, **arithmetic, checkpoint_seconds=0.05)
    train(elastic, toy_tasks(), ToySplit(), config, out, seed=3)
    return elastic.state()


if __name__ == "__main__":
    torch.set_num_threads(1)
    long_train(Path(sys.argv[1]), sys.argv[2])
