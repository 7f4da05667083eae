"""`score` reads every meter over a split and refuses networks and splits that do not fit."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from mtnas.base.errors import DataError, ModelError
from mtnas.data.base import Split
from mtnas.data.config import DataConfig
from mtnas.data.open import open_dataset
from mtnas.score.score import primary, score
from mtnas.tasks.base import Task, TaskSpec, make_task


@pytest.fixture(scope="module")
def split() -> Split:
    return open_dataset(DataConfig(height=16, width=24, report=11)).split("report")


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    info = open_dataset(DataConfig()).info
    return {name: make_task(TaskSpec(name, t.type, t.channels)) for name, t in info.targets.items()}


def toy(image: Tensor) -> dict[str, Tensor]:
    """Pixel-wise arithmetic, so that an image's output does not depend on its batch."""
    x = image.mean(1, keepdim=True)
    ramp = torch.arange(8.0)[None, :, None, None]
    return {
        "segmentation": -((x - ramp / 4 + 1) ** 2),
        "depth": 3 + x,
        "normals": image,
        "edges": image[:, :1],
        "presence": image[:, 0, :8, 3],
        "room": image[:, 1, :4, 5],
    }


def test_batches_do_not_matter(split: Split, tasks: Mapping[str, Task]) -> None:
    one, seven, all_ = (score(toy, tasks, split, batch_size=size) for size in (1, 7, 32))
    assert one == seven == all_
    assert {name: set(values) for name, values in one.items()} == {
        name: {metric.name for metric in task.metrics} for name, task in tasks.items()
    }
    assert primary(one, tasks)["depth"] == one["depth"]["abs_err"]


def test_the_truth_scores_best(split: Split, tasks: Mapping[str, Task]) -> None:
    _, targets = split.batch(range(len(split)))
    depth = {"depth": tasks["depth"]}
    assert score(lambda image: {"depth": targets["depth"]}, depth, split)["depth"]["rmse"] == 0


def test_limit_is_the_first_images(split: Split, tasks: Mapping[str, Task]) -> None:
    chosen = {"depth": tasks["depth"]}
    assert score(toy, chosen, split, limit=4) != score(toy, chosen, split)
    assert score(toy, chosen, split, limit=4, batch_size=3) == score(toy, chosen, split, limit=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: {k: v for k, v in out.items() if k != "depth"}, "an output for every task"),
        (lambda out: {**out, "depth": out["depth"][:, :, ::2]}, "targets of shape"),
        (lambda out: {**out, "depth": out["depth"][1:]}, "targets of shape"),
        (lambda out: {**out, "depth": out["depth"] * float("nan")}, "finite outputs"),
    ],
)
def test_networks_that_do_not_fit(split: Split, tasks: Mapping[str, Task], change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ModelError, match=message) as caught:
        score(lambda image: change(toy(image)), tasks, split)
    assert "task depth" in str(caught.value)


def test_splits_that_do_not_fit(split: Split, tasks: Mapping[str, Task]) -> None:
    with pytest.raises(DataError, match="a target for every task"):
        score(toy, {"depths": tasks["depth"]}, split)
    with pytest.raises(DataError, match="something to score for mean_ap"):
        score(toy, {"presence": tasks["presence"]}, split, limit=1)
