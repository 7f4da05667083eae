"""A single-task network: the same encoder and one head, trained alone as the multi-task network is trained.

It is what a task can reach by itself, hence the reference of every delta (`mtnas.score.delta`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch
from torch import nn

from mtnas.base.progress import Progress
from mtnas.base.seeds import derive_seed
from mtnas.data.base import Dataset
from mtnas.elastic.recalibrate import re_estimate
from mtnas.tasks.base import Task
from mtnas.train.build import build_model, check_outputs
from mtnas.train.config import FitConfig, ModelConfig
from mtnas.train.finetune import finetune

#: ours or a factory's by configuration, or a function without arguments that builds the user's network
Source = ModelConfig | Callable[[], nn.Module]

#: images of one pass when statistics are estimated
_BATCH = 32


def single_network(model: Source, task: Task, dataset: Dataset, *, seed: int) -> nn.Module:
    """The untrained network of one task, at full width; a user's network keeps all its outputs.

    Args:
        model: which encoder and head, or what builds the user's network.
        task: what it answers.
        dataset: whose images it gets.
        seed: of a training; the initial weights follow from it.

    Raises:
        ModelError: the user's network does not answer this task.
    """
    info, targets = dataset.info, {task.spec.name: (task.spec.type, task.spec.channels)}
    start = derive_seed(seed, "init") % (1 << 31)
    if isinstance(model, ModelConfig):
        network = build_model(model, targets, seed=start, in_channels=len(info.mean))
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(start)
            network = model()
    check_outputs(network, torch.zeros(2, len(info.mean), info.height, info.width), targets)
    return network


def single_config(config: FitConfig) -> FitConfig:
    """Settings of the same training for one task: what only concerns sub-networks or several tasks is left out."""
    shared = {field.name: getattr(config, field.name) for field in fields(FitConfig)}
    return FitConfig(**{**shared, "balance": "fixed"})


def train_single(
    model: Source,
    task: Task,
    dataset: Dataset,
    config: FitConfig,
    out: Path,
    seed: int = 0,
    *,
    calibrate_images: int = 128,
    progress: Progress | None = None,
) -> nn.Module:
    """Train one task's network on the labels alone, in the plain engine; returned in evaluation mode.

    Continues from `out/checkpoint.safetensors`. With a job's seed, the encoder starts from the weights, and sees the
    images in the order, of that job's supernet. Batch-norm statistics are re-estimated on the calibrate split, as those
    of every sub-network are. A user's own network is built whole and trained on this one output.

    Args:
        model: encoder and heads as in the multi-task network, or what builds the user's network.
        task: the only one that is learned.
        dataset: its `train` and `calibrate` splits are read.
        config: of a supernet or of any plain training; sandwich, teachers and balancing do not apply.
        out: folder of checkpoints, curves and `weights.safetensors` (with the averages of training).
        seed: of initial weights, order and augmentation.
        calibrate_images: images behind the statistics.
        progress: shows a bar with the loss.
    """
    network = single_network(model, task, dataset, seed=seed)
    finetune(
        network,
        {task.spec.name: task},
        dataset.split("train"),
        single_config(config),
        out,
        teacher=None,
        seed=derive_seed(seed, "train") % (1 << 31),
        progress=progress,
    )
    batches = dataset.split("calibrate").batches(_BATCH, calibrate_images)
    re_estimate(network, (image_BCHW for image_BCHW, _targets in batches))
    return network
