"""`mtnas.references`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from mtnas.api.data import Tasks, check_labels, make_tasks
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset
from mtnas.score.config import ScoreConfig
from mtnas.train.config import FitConfig, ModelConfig, TrainConfig
from mtnas.train.references import Recipe, References, epochs_of, train_references


def references(
    model: ModelConfig | Callable[[], nn.Module],
    tasks: Tasks,
    data: Dataset,
    *,
    epochs: int | None = None,
    config: FitConfig | None = None,
    cache: str | Path = "runs/.references",
    score: ScoreConfig | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> References:
    """One single-task network for each task, trained alone on full width, scored on `select` and `report`.

    `found.delta(scores, convention="one_metric")` is a multi-task network's change against them.

    Args:
        model: encoder and heads as in the multi-task network, or a function without arguments that builds your own;
            that one is built whole for each task and trained on the task's output alone.
        tasks: names of targets, tasks by name, or None for every target of the data.
        data: `train` is learned, `calibrate` gives batch-norm statistics, the other two splits are scored.
        epochs: passes over `train`, when `config` should stay as it is otherwise.
        config: that of the multi-task training, so that both had the same schedule.
        cache: folder of trained references; several processes may share it. A training that was interrupted continues.
        score: images behind statistics.
        seed: of initial weights, order and augmentation.
        progress: shows a bar for each training.

    Raises:
        CheckpointError: the cache is damaged; the message names the folder to delete.
        ModelError: your network does not answer a task.
        JobError: tasks that the data does not have.
        DataError: a split that is learned or scored has no label of a task.
        TrainingDiverged: a loss is NaN or infinite.
    """
    found = make_tasks(tasks, data)
    check_labels(found, data, ["train", "select", "report"])
    settings = epochs_of(config or TrainConfig(), epochs)
    return train_references(Recipe(model, data, settings, seed, score or ScoreConfig()), found, Path(cache), progress)
