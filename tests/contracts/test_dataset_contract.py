"""The exam of every row of DATASETS: shapes, types and ranges of all targets, splits that do not touch, repeatability.

Sets on disk are examined where `MTNAS_DATA` points to them; elsewhere the exam of that set is skipped.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtnas.base.errors import JobError
from mtnas.data.base import Dataset, Split
from mtnas.data.config import SPLITS, DataConfig
from mtnas.data.open import open_dataset
from mtnas.data.table import DATASETS
from mtnas.tasks.base import IGNORE, UNLABELLED, TaskSpec, make_task
from mtnas.tasks.table import TASKS

GENERATED = ("scenes",)
H, W = 32, 48


def config_of(name: str, **changes: object) -> DataConfig:
    base = DataConfig(name=name, height=H, width=W, train=24, calibrate=10, select=9, report=9)
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=DATASETS)
def data(request: pytest.FixtureRequest) -> Dataset:
    name = request.param
    base = os.environ.get("MTNAS_DATA")
    if name not in GENERATED and not (base and (Path(base) / name).is_dir()):
        pytest.skip(f"the real set {name!r} is not here: MTNAS_DATA names no folder that contains it")
    return open_dataset(config_of(name))


def test_info(data: Dataset) -> None:
    info = data.info
    assert set(info.sizes) == set(SPLITS)
    assert (info.height, info.width) == (H, W)
    assert len(info.fingerprint) == 64
    assert all(target.type in TASKS for target in info.targets.values())
    for name, target in info.targets.items():
        make_task(TaskSpec(name, target.type, target.channels, class_names=target.class_names))
    assert info.to_json()["targets"]["depth"]["channels"] == 1


@pytest.mark.parametrize("augmented", [False, True])
def test_batch(data: Dataset, augmented: bool) -> None:
    split = data.split("select")
    image_BCHW, targets = split.batch([3, 0, 5], np.random.default_rng(0) if augmented else None)
    assert image_BCHW.shape == (3, 3, H, W)
    assert image_BCHW.dtype == torch.float32
    assert image_BCHW.is_contiguous() and image_BCHW.abs().max() < 5
    assert list(targets) == list(data.info.targets)
    for name, info in data.info.targets.items():
        check_target(info.type, info.channels, targets[name])


def check_target(kind: str, channels: int, target: torch.Tensor) -> None:
    if kind == "segmentation":
        assert target.shape == (3, H, W) and target.dtype == torch.int64
        assert ((target < channels) | (target == IGNORE)).all() and (target >= 0).all()
    elif kind == "depth":
        assert target.shape == (3, 1, H, W) and target.dtype == torch.float32
        assert (target >= 0).all() and 0.3 < target[target > 0].median() < 10
    elif kind == "normals":
        assert target.shape == (3, 3, H, W)
        length = target.norm(dim=1)
        assert (((length - 1).abs() < 1e-5) | (length == 0)).all() and (length > 0).float().mean() > 0.5
        # the visible side of a surface points to the camera, which looks along +z
        assert (target[:, 2] < 0.1).float().mean() > 0.9
    elif kind == "edges":
        assert target.shape == (3, 1, H, W)
        assert set(target.unique().tolist()) <= {0.0, 1.0, float(IGNORE)}
        assert 0.01 < (target == 1).float().mean() < 0.5
    elif kind == "classification":
        assert target.shape == (3,) and target.dtype == torch.int64
        assert ((target >= 0) & (target < channels) | (target == UNLABELLED)).all()
    else:
        assert target.shape == (3, channels) and set(target.unique().tolist()) <= {0.0, 1.0}


def test_everything_is_repeatable(data: Dataset) -> None:
    again = open_dataset(config_of(data.info.name))
    assert again.info == data.info
    for rngs in [(None, None), (np.random.default_rng(7), np.random.default_rng(7))]:
        first = data.split("calibrate").batch([1, 4], rngs[0])
        second = again.split("calibrate").batch([1, 4], rngs[1])
        assert torch.equal(first[0], second[0])
        assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def test_augmentation_varies(data: Dataset) -> None:
    split, rng = data.split("calibrate"), np.random.default_rng(0)
    assert not torch.equal(split.batch([0, 1], rng)[0], split.batch([0, 1], rng)[0])


def test_batches_cover_the_split_once(data: Dataset) -> None:
    split = data.split("report")
    whole = split.batch(np.arange(len(split)))[0]
    assert torch.equal(torch.cat([image for image, _ in split.batches(4)]), whole)
    assert [len(image) for image, _ in split.batches(4)] == [4, 4, 1]
    assert [len(image) for image, _ in split.batches(4, limit=6)] == [4, 2]
    assert sum(len(image) for image, _ in split.batches(4, limit=99)) == len(split)


def test_no_image_is_in_two_splits(data: Dataset) -> None:
    seen = [image.numpy().tobytes() for name in SPLITS for batch, _ in data.split(name).batches(1) for image in batch]
    assert len(set(seen)) == len(seen) == sum(data.info.sizes.values())


def test_fingerprint_follows_the_pixels(data: Dataset) -> None:
    name = data.info.name
    changes: list[dict[str, object]] = [{"height": 40}, {"train": 8}]
    others = [open_dataset(config_of(name, **change)).info.fingerprint for change in changes]
    assert len({data.info.fingerprint, *others}) == 3


def test_targets_can_be_chosen(data: Dataset) -> None:
    chosen = open_dataset(config_of(data.info.name, targets=("normals", "depth")))
    assert list(chosen.split("calibrate").batch([0])[1]) == list(chosen.info.targets) == ["depth", "normals"]
    with pytest.raises(JobError, match="did you mean 'depth'"):
        open_dataset(config_of(data.info.name, targets=("deepth",)))


def test_wrong_asks(data: Dataset) -> None:
    with pytest.raises(JobError, match="did you mean 'train'"):
        data.split("trian")
    split: Split = data.split("select")
    for bad in ([-1], [len(split)], []):
        with pytest.raises(JobError, match="indices"):
            split.batch(bad)
