"""Build the parts of a run from its job: tasks, network, elastic model."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.tables import nearest
from mtnas.data.base import DataInfo
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.elastic.task_subset import only_tasks
from mtnas.job.schema import Job, TaskConfig
from mtnas.space.rules import read_rules
from mtnas.tasks.base import Task, TaskSpec, make_task
from mtnas.tasks.table import DEFAULT_WEIGHTS
from mtnas.train.build import build_model, check_outputs


def make_tasks(job: Job, info: DataInfo) -> dict[str, Task]:
    """The job's tasks in the job's order; every target of the data set when the job names none."""
    configs = job.tasks or tuple(TaskConfig(name=name) for name in info.targets)
    tasks: dict[str, Task] = {}
    for config in configs:
        if config.name not in info.targets:
            raise JobError(
                f"a target of the data set {info.name!r}",
                received=repr(config.name),
                where="tasks",
                cure=nearest(config.name, info.targets),
            )
        target = info.targets[config.name]
        weight = DEFAULT_WEIGHTS[target.type] if config.weight is None else config.weight
        spec = TaskSpec(config.name, target.type, target.channels, weight, tuple(target.class_names))
        tasks[config.name] = make_task(spec)
    return tasks


def model_targets(tasks: dict[str, Task]) -> dict[str, tuple[str, int]]:
    """What the network has to answer: task name -> (type, channels)."""
    return {name: (task.spec.type, task.spec.channels) for name, task in tasks.items()}


def make_model(job: Job, tasks: dict[str, Task], info: DataInfo, seed: int) -> nn.Module:
    """The full-size network with its initial weights; of a factory's network only the job's tasks are answered."""
    targets = model_targets(tasks)
    model = build_model(job.model, targets, seed=seed)
    check_outputs(model, torch.zeros(2, 3, info.height, info.width), targets)
    return only_tasks(model, tasks, torch.zeros(2, 3, info.height, info.width)) if job.model.factory else model


def make_elastic_model(job: Job, model: nn.Module, info: DataInfo, round_to: int) -> ElasticModel:
    """The elastic model; widths follow the job's space rules on steps of `round_to`, important channels come first.

    Sorting keeps the function. It matters for networks that come trained: a slimmed width is a prefix.
    """
    example_BCHW = torch.zeros(1, 3, info.height, info.width)
    elastic = make_elastic(
        model,
        example_BCHW,
        rules=read_rules(job.space.rules),
        round_to=round_to,
        ignored_layers=job.space.ignored_layers,
    )
    elastic.sort_channels()
    return elastic


def load_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file; raises `CheckpointError` when it is missing or torn."""
    try:
        return load_tensors(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            "trained weights",
            received=str(error),
            where=str(path),
            cure="delete this stage's folder; the same command trains again",
        ) from error
