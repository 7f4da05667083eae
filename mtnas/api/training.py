"""`mtnas.train` and `mtnas.finetune`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from mtnas.api.data import Tasks, check_labels, make_tasks, outputs_of, some_images
from mtnas.api.given import Out, given_context, identity, settle, tasks_identity, workplace
from mtnas.api.known import learn
from mtnas.base.files import read_json
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset
from mtnas.elastic.model import ElasticModel
from mtnas.job.schema import Job
from mtnas.tasks.base import Task
from mtnas.train import finetune as finetuning
from mtnas.train import loop
from mtnas.train.checkpoint import load_weights, weights_hash
from mtnas.train.config import FinetuneConfig, TrainConfig
from mtnas.train.fit import RESULT, WEIGHTS
from mtnas.train.own import only_own
from mtnas.train.result import FinetuneResult, TrainResult
from mtnas.train.start import start_hash
from mtnas.train.watch import Watch

Config = TypeVar("Config", TrainConfig, FinetuneConfig)


def train(
    elastic: ElasticModel,
    tasks: Tasks,
    data: Dataset,
    *,
    epochs: int | None = None,
    config: TrainConfig | None = None,
    own: bool = False,
    start: str | Path | None = None,
    out: Out = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainResult:
    """Train the elastic model once, so that every sub-network works (docs/training.md).

    The elastic model's weights change, which are its own; the model it was made from does not. Batch-norm statistics
    come from the data's calibrate split from here on; those of the full network are in place afterwards.

    Args:
        elastic: from `make_elastic`.
        tasks: names of targets, tasks by name, or None for every output that is a target of the data. Decoders of other
            tasks do not run and stay as they are.
        data: its `train` split is learned.
        epochs: passes over the split, when `config` should stay as it is otherwise.
        config: learning rate, widths per step, precision and the rest.
        own: train only what no other task needs: the others' outputs stay the same.
        start: checkpoint of a trained network of this shape (safetensors, or a state dict that `torch.save` wrote),
            when `config` should stay as it is otherwise. A network that is already in memory needs none:
            `make_elastic` keeps its weights.
        out: folder for checkpoints (`2-train` in it); the same call continues an interrupted training exactly. The
            weights at the start are not compared: give a new folder to start from others.
        seed: of order, augmentation and sub-networks.
        progress: shows a bar with each task's loss.

    Raises:
        TrainingDiverged: a loss is NaN or infinite; the last good checkpoint is kept.
        JobError: tasks that the data or the network does not have.
        DataError: the train split has no label of a task.
        CheckpointError: a start that cannot be read, or whose names and shapes are not the network's.
    """
    config = _with_epochs(config or TrainConfig(), epochs)
    config = config if start is None else replace(config, start=str(start))
    found = make_tasks(tasks, data, elastic.tasks)
    check_labels(found, data, ["train"])
    inputs = {**_inputs(elastic, found, data, config, seed), **({"own": True} if own else {})}
    job = Job(seed=seed, train=config)
    with workplace(out, "train", inputs) as call:
        shown = given_context(job, call.run, elastic, data, found, progress).progress
        if call.done:
            elastic.load_state(load_weights(call.folder / WEIGHTS))
            result = _past(call.folder)
        else:
            watch, split = _watch(elastic, found, data, config), data.split("train")
            with only_own(elastic, found) if own else nullcontext():
                result = loop.train(elastic, found, split, config, call.folder, seed=seed, progress=shown, watch=watch)
            call.finish(result.weights_hash)
        settle(job, elastic, data)
        learn(elastic, tasks=found, data=data)
    return result


def _inputs(
    elastic: ElasticModel, tasks: dict[str, Task], data: Dataset, config: TrainConfig, seed: int
) -> dict[str, object]:
    """What a training depends on, beside the weights it starts from."""
    return {
        **identity(elastic, weights=False),
        "tasks": tasks_identity(tasks),
        "data": data.info.fingerprint,
        "config": config.telling(),
        "seed": seed,
        **({"start": start_hash(config)} if config.start else {}),
    }


def _watch(elastic: ElasticModel, tasks: Mapping[str, Task], data: Dataset, config: TrainConfig) -> Watch | None:
    if not config.watch_epochs:
        return None
    return Watch(elastic, tasks, data.split("select"), config.watch_images, config.watch_epochs)


class Finetuned(NamedTuple):
    """`model, result = mtnas.finetune(...)`."""

    model: nn.Module
    result: FinetuneResult


def finetune(
    model: nn.Module,
    tasks: Tasks,
    data: Dataset,
    *,
    teacher: nn.Module | Callable[[Tensor], Mapping[str, Tensor]] | None = None,
    epochs: int | None = None,
    config: FinetuneConfig | None = None,
    out: Out = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Finetuned:
    """Train a copy of a plain network on, such as one that was pruned.

    Args:
        model: `image (B,C,H,W) -> dict[task, Tensor]`; it stays as it is.
        tasks: names of targets, or tasks by name.
        data: its `train` split is learned.
        teacher: a larger network whose outputs are learned too; it is copied.
        epochs: passes over the split, when `config` should stay as it is otherwise.
        config: learning rate, share of the teacher and the rest.
        out: folder for checkpoints (`2-train` in it); the same call continues an interrupted training.
        seed: of order and augmentation.
        progress: shows a bar with each task's loss.

    Raises:
        TrainingDiverged: a loss is NaN or infinite.
        JobError: tasks that the data does not have.
        DataError: the train split has no label of a task.
    """
    config = _with_epochs(config or FinetuneConfig(), epochs)
    found = make_tasks(tasks, data, outputs_of(model, some_images(data, "train", 2)))
    check_labels(found, data, ["train"])
    student = copy.deepcopy(model)
    if isinstance(teacher, nn.Module):
        teacher = copy.deepcopy(teacher)
    inputs = {
        "start": weights_hash(student.state_dict()),
        "tasks": tasks_identity(found),
        "data": data.info.fingerprint,
        "config": config.telling(),
        "seed": seed,
    }
    with workplace(out, "train", inputs) as call:
        if call.done:
            student.load_state_dict(load_weights(call.folder / WEIGHTS))
            return Finetuned(student.eval(), _past(call.folder))
        result = finetuning.finetune(
            student, found, data.split("train"), config, call.folder, teacher=teacher, seed=seed, progress=progress
        )
        call.finish(result.weights_hash)
    return Finetuned(student.eval(), result)


def _past(folder: Path) -> TrainResult:
    """The result of a training that is complete."""
    return TrainResult.from_json(read_json(folder / RESULT, schema="train/1"))


def _with_epochs(config: Config, epochs: int | None) -> Config:
    return config if epochs is None else replace(config, epochs=epochs)
