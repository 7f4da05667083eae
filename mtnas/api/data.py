"""`mtnas.open_data` and `mtnas.make_tasks`: what a network learns from, and what it is asked."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import islice

from torch import Tensor, nn

from mtnas.base.errors import DataError, JobError
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset
from mtnas.data.config import DataConfig
from mtnas.data.open import open_dataset
from mtnas.elastic.contract import check_example, try_model
from mtnas.job.schema import Job, TaskConfig
from mtnas.stages import parts
from mtnas.tasks.base import Task

#: tasks as users write them: names of targets, or tasks made before; None = every target the network answers
Tasks = Mapping[str, Task] | Sequence[str] | None


def open_data(
    name: str | DataConfig = "scenes", *, height: int = 64, width: int = 64, progress: Progress | None = None
) -> Dataset:
    """A data set with its splits `train`, `calibrate`, `select` and `report`.

    Args:
        name: a row of the data sets' table, or a `DataConfig` for everything else (sizes of splits, folder, classes).
        height, width: pixels of the images the network sees.
        progress: where generating or reading is shown.

    Raises:
        JobError: no such data set.
        DataError: its files are missing or damaged.
    """
    config = name if isinstance(name, DataConfig) else DataConfig(name=name, height=height, width=width)
    return open_dataset(config, progress=progress)


def make_tasks(tasks: Tasks, data: Dataset, outputs: Sequence[str] = ()) -> dict[str, Task]:
    """The tasks by name.

    Args:
        tasks: names of the data set's targets, tasks made before, or None for every output that is a target.
        data: knows type, channels and class names of its targets.
        outputs: the network's outputs; each task must be one of them. Empty = not checked.

    Raises:
        JobError: a task that is no target of the data, or no output of the network.
    """
    if isinstance(tasks, Mapping):
        found = dict(tasks)
    else:
        names = [name for name in outputs if name in data.info.targets] if tasks is None else list(tasks)
        if not names and tasks is None and not outputs:
            names = list(data.info.targets)
        found = parts.make_tasks(Job(tasks=tuple(TaskConfig(name=name) for name in names)), data.info) if names else {}
    wrong = [name for name in found if outputs and name not in outputs]
    if wrong or not found:
        raise JobError(
            f"tasks out of the network's outputs {list(outputs)}",
            received=str(wrong or "none of them is a target of the data"),
            where="tasks",
            cure="name the outputs of forward() like the targets of the data",
        )
    return found


def check_labels(tasks: Mapping[str, Task], data: Dataset, splits: Sequence[str], limit: int | None = None) -> None:
    """`Dataset.require_labels` of some splits, in the words of a call: there is no job whose keys could be named."""
    named = [name for name in tasks if name in data.info.targets]
    for split in splits:
        cure = "leave these tasks out, or take more images"
        data.require_labels(split, named, limit, where=f"data {data.info.name}", cure=cure)


def outputs_of(model: nn.Module, example_BCHW: Tensor) -> tuple[str, ...]:
    """The names of a network's outputs, in order; raises `ModelError` when it breaks the contract."""
    check_example(example_BCHW)
    return tuple(try_model(copy.deepcopy(model).eval(), example_BCHW))


def some_images(data: Dataset, split: str, count: int) -> Tensor:
    """The first `count` images (B,C,H,W) of a split, at most as many as there are."""
    image_BCHW, _targets = data.split(split).batch(range(min(count, len(data.split(split)))))
    return image_BCHW


def limited(batches: object, images: int) -> list[tuple[Tensor, Mapping[str, Tensor]]]:
    """The first batches of a user's iterable, up to so many images.

    Args:
        batches: gives `(image_BCHW, targets)`, such as a `torch.utils.data.DataLoader`.
        images: enough images.

    Raises `DataError` on anything but (image, targets).
    """
    found: list[tuple[Tensor, Mapping[str, Tensor]]] = []
    count = 0
    for batch in islice(batches, images):  # type: ignore[call-overload]
        pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        if not pair or not isinstance(batch[0], Tensor) or batch[0].dim() != 4:
            raise DataError(
                "batches of (image of shape (B,C,H,W), targets)",
                received=type(batch).__name__,
                where="batches",
                cure="for example a DataLoader over (image, {task: target})",
            )
        found.append((batch[0], batch[1]))
        count += len(batch[0])
        if count >= images:
            break
    if not found:
        raise DataError("at least one batch", received="none", where="batches")
    return found
