"""Splits in which a task has no label: refused before anything is trained; a job with labels enough is not."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from fabricated import build
from tiny import JOB, assert_told, mtnas
from torch import nn

import mtnas as api
from mtnas.api.data import check_labels
from mtnas.base.errors import DataError
from mtnas.data.base import Dataset
from mtnas.data.config import DataConfig
from mtnas.data.open import open_dataset
from mtnas.data.table import TARGETS
from mtnas.job.read import read_job
from mtnas.stages.context import RunContext
from mtnas.stages.preflight import preflight_labels

CIFAR = TARGETS["cifar100-mtl"]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        return {name: build(name, tmp_path_factory.mktemp("set") / name, patch) for name in ("cifar100-mtl", "pets3")}


def context_of(folder: Path, data: str, tasks: str, **changes: str) -> RunContext:
    lines = [line for line in JOB.splitlines() if not line.startswith(("data:", "tasks:", "floors:"))]
    (folder / "job.yaml").write_text("\n".join([f"data: {data}", f"tasks: {tasks}", *lines]))
    return RunContext(read_job(folder / "job.yaml", [f"{k}={v}" for k, v in changes.items()]), folder / "run")


def labelled(root: Path) -> dict[str, set[str]]:
    """Tasks that some image of each split is labelled for, as the batches say."""
    data: Dataset = open_dataset(DataConfig(name="cifar100-mtl", root=str(root), height=32, width=32))
    found = {}
    for name in ("train", "select", "report"):
        split = data.split(name)
        _, targets = split.batch(list(range(len(split))))
        found[name] = {task for task, labels in targets.items() if bool((labels >= 0).any())}
    return found


def test_a_task_without_a_label_is_told_before_the_training(trees: dict[str, Path], tmp_path: Path) -> None:
    """Twelve images cannot belong to twenty tasks; those that some do belong to are a sound job."""
    root = trees["cifar100-mtl"]
    data, found = f"{{name: cifar100-mtl, root: {root}, height: 32, width: 32}}", labelled(root)
    missing = [task for task in CIFAR if task not in found["select"]]
    sound = [task for task in CIFAR if all(task in tasks for tasks in found.values())]
    few = [task for task in CIFAR if task in found["train"]]
    assert missing and sound
    context = context_of(tmp_path, data, f"[{', '.join(few)}]")
    for done in (
        mtnas("run", tmp_path / "job.yaml", "-o", tmp_path / "run", "--json"),
        mtnas("plan", tmp_path / "job.yaml", "--json"),
    ):
        names = ", ".join(task for task in missing if task in few)
        assert_told(
            done,
            2,
            "with a label for each task",
            f"none for {names} among all 12 images",
            "data.select",
            "cure: leave these",
        )
    assert not list((tmp_path / "run").glob("[0-9]*"))
    assert json.loads((tmp_path / "run" / "FAILED.json").read_text())["kind"] == "DataError"
    with pytest.raises(DataError, match="among all 12 images"):
        preflight_labels(context)
    preflight_labels(context_of(tmp_path, data, f"[{', '.join(sound)}]"))


def test_images_that_are_not_scored_do_not_count(trees: dict[str, Path], tmp_path: Path) -> None:
    """Every second fabricated pet has a head box, the first has none."""
    data = f"{{name: pets3, root: {trees['pets3']}, height: 32, width: 32}}"
    for images, tasks in (("2", "[head]"), ("1", "[body, breed]"), ("null", "[head, species]")):
        preflight_labels(context_of(tmp_path, data, tasks, **{"score.select_images": images}))
    with pytest.raises(DataError, match=r"score.select_images[\s\S]*none for head among its first 1 images"):
        preflight_labels(context_of(tmp_path, data, "[head, body]", **{"score.select_images": "1"}))
    with pytest.raises(
        DataError, match=r"data.report[\s\S]*none for head among all 1 images[\s\S]*leave data.report out"
    ):
        preflight_labels(context_of(tmp_path, data, "[head]", **{"data.report": "1"}))


def test_the_real_set_needs_enough_images_to_reach_all_tasks(tmp_path: Path) -> None:
    base = os.environ.get("MTNAS_DATA")
    if not base or not (Path(base) / "cifar100").is_dir():
        pytest.skip("the real set 'cifar100-mtl' is not here: MTNAS_DATA names no folder that contains it")
    data = f"{{name: cifar100-mtl, root: {base}, height: 32, width: 32, train: 2000, select: %s}}"
    preflight_labels(context_of(tmp_path, data % 500, f"[{', '.join(CIFAR)}]"))
    with pytest.raises(DataError, match="images of select|all 10 images"):
        preflight_labels(context_of(tmp_path, data % 10, f"[{', '.join(CIFAR)}]"))


class OneAnswer(nn.Module):
    """A network for one of the tasks."""

    def __init__(self, task: str, classes: int) -> None:
        super().__init__()
        self.task, self.hidden, self.out = task, nn.Conv2d(3, 16, 3), nn.Linear(16, classes)

    def forward(self, image_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self.task: self.out(self.hidden(image_BCHW).mean((2, 3)))}


def test_calls_in_python_tell_it_before_they_work(trees: dict[str, Path], tmp_path: Path) -> None:
    root = trees["cifar100-mtl"]
    data = api.open_data(DataConfig(name="cifar100-mtl", root=str(root), height=32, width=32))
    task = next(task for task in CIFAR if task not in labelled(root)["train"])
    network = OneAnswer(task, data.info.targets[task].channels)
    elastic = api.make_elastic(network, torch.zeros(1, 3, 32, 32), round_to=8)
    calls = {
        "train": partial(api.train, elastic, [task], data, epochs=1, out=tmp_path),
        "finetune": partial(api.finetune, network, [task], data, epochs=1, out=tmp_path),
        "references": partial(api.references, lambda: network, [task], data, epochs=1, cache=tmp_path),
    }
    for name, call in calls.items():
        with pytest.raises(DataError, match="of train with a label for each task") as told:
            call()
        assert f"none for {task} among all {data.info.sizes['train']} images" in str(told.value), name
    assert not list(tmp_path.iterdir())


def test_only_the_images_behind_a_score_count(trees: dict[str, Path]) -> None:
    """The first image belongs to one of the twenty tasks."""
    root = trees["cifar100-mtl"]
    data = api.open_data(DataConfig(name="cifar100-mtl", root=str(root), height=32, width=32))
    sound = [task for task in CIFAR if task in labelled(root)["select"]]
    tasks = api.make_tasks(sound, data)
    check_labels(tasks, data, ["select"])
    with pytest.raises(DataError, match="among its first 1 images") as told:
        check_labels(tasks, data, ["select"], 1)
    assert sum(task not in str(told.value) for task in sound) == 1
