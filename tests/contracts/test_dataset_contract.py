"""The exam of every row of DATASETS: shapes, types and ranges of all targets, splits that do not touch, repeatability.

Sets on disk are examined twice: on a fabricated tree in the exact layout (`fabricated.py`), and on the real bytes where
`MTNAS_DATA` points to them; elsewhere that second exam is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricated import BUILDERS, build

from mtnas.base.errors import JobError
from mtnas.data.base import Dataset, Split
from mtnas.data.config import SPLITS, DataConfig
from mtnas.data.open import open_dataset
from mtnas.data.table import DATASETS, TARGETS
from mtnas.tasks.base import IGNORE, UNLABELLED, TaskSpec, make_task
from mtnas.tasks.table import TASKS

GENERATED = ("scenes",)
#: folders under which real copies lie, where they have another name than the preset
FOLDERS = {"cifar100-mtl": "cifar100", "multimnist": "mnist", "multifashion": "fashion_mnist"}
#: the axes of these sets' normals are not ours: which side is visible cannot be told
OTHER_AXES = {"nyuv2-mtan", "nyud-mt", "nyud-atrc", "pascal-mt", "folder"}
H, W = 32, 48
CASES = [(name, real) for name in DATASETS for real in (False, True) if real or name in {*GENERATED, *BUILDERS}]


def config_of(name: str, root: str | None = None, **changes: object) -> DataConfig:
    base = DataConfig(name=name, root=root, height=H, width=W, train=24, calibrate=10, select=9, report=9)
    return replace(base, **changes)  # type: ignore[arg-type]


class Subject:
    """A data set under examination; `again` opens it anew with other settings."""

    def __init__(self, name: str, root: str | None) -> None:
        self.name = name
        self.root = root
        self.data = self.again()

    def again(self, **changes: object) -> Dataset:
        return open_dataset(config_of(self.name, self.root, **changes))


@pytest.fixture(scope="module", params=CASES, ids=[f"{name}-{'real' if real else 'made'}" for name, real in CASES])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    name, real = request.param
    with pytest.MonkeyPatch.context() as patch:
        if name in GENERATED:
            if real:
                pytest.skip("generated: there is only one")
            yield Subject(name, None)
        elif real:
            base = os.environ.get("MTNAS_DATA")
            places = [Path(base) / folder for folder in (name, FOLDERS.get(name, name))] if base else []
            place = next((place for place in places if place.is_dir()), None)
            if place is None:
                pytest.skip(f"the real set {name!r} is not here: MTNAS_DATA names no folder that contains it")
            yield Subject(name, str(place))
        else:
            yield Subject(name, str(build(name, tmp_path_factory.mktemp("set") / name, patch)))


@pytest.fixture
def data(subject: Subject) -> Dataset:
    return subject.data


def test_every_row_has_a_tree_to_be_examined_on() -> None:
    assert set(DATASETS) == {*GENERATED, "nyuv2", *BUILDERS}
    assert set(TARGETS) == set(DATASETS) - {"folder"}


def test_info(data: Dataset) -> None:
    info = data.info
    assert set(info.sizes) == set(SPLITS)
    assert (info.height, info.width) == (H, W)
    assert len(info.fingerprint) == 64
    assert all(target.type in TASKS for target in info.targets.values())
    for name, target in info.targets.items():
        make_task(TaskSpec(name, target.type, target.channels, class_names=target.class_names))
    assert set(info.to_json()["targets"]) == set(info.targets)
    if info.name in TARGETS:
        assert tuple(info.targets) == TARGETS[info.name]


@pytest.mark.parametrize("augmented", [False, True])
def test_batch(data: Dataset, augmented: bool) -> None:
    split = data.split("select")
    image_BCHW, targets = split.batch([3, 0, 5], np.random.default_rng(0) if augmented else None)
    assert image_BCHW.shape == (3, 3, H, W)
    assert image_BCHW.dtype == torch.float32
    assert image_BCHW.is_contiguous() and image_BCHW.abs().max() < 5
    assert list(targets) == list(data.info.targets)
    for name, info in data.info.targets.items():
        check_target(info.type, info.channels, targets[name], ours=data.info.name not in OTHER_AXES)


def check_target(kind: str, channels: int, target: torch.Tensor, *, ours: bool) -> None:
    if kind in {"segmentation", "parts"}:
        assert target.shape == (3, H, W) and target.dtype == torch.int64
        assert ((target < channels) | (target == IGNORE)).all() and (target >= 0).all()
    elif kind == "depth":
        assert target.shape == (3, 1, H, W) and target.dtype == torch.float32
        assert (target >= 0).all() and (target == 0).all() | (0.3 < target[target > 0].median() < 10)
    elif kind == "disparity":
        assert target.shape == (3, 1, H, W) and target.dtype == torch.float32
        assert ((target >= 0) | (target == -1)).all() and target.max() < 200
    elif kind == "normals":
        assert target.shape == (3, 3, H, W)
        length = target.norm(dim=1)
        assert (((length - 1).abs() < 1e-5) | (length == 0)).all()
        if ours:
            assert (length > 0).float().mean() > 0.5
            # the visible side of a surface points to the camera, which looks along +z
            assert (target[:, 2] < 0.1).float().mean() > 0.9
    elif kind in {"edges", "saliency"}:
        assert target.shape == (3, 1, H, W)
        assert set(target.unique().tolist()) <= {0.0, 1.0, float(IGNORE)}
        assert (target == IGNORE).all() | (0.005 < (target == 1).float().mean() < 0.5)
    elif kind == "classification":
        assert target.shape == (3,) and target.dtype == torch.int64
        assert ((target >= 0) & (target < channels) | (target == UNLABELLED)).all()
    elif kind == "box":
        assert target.shape == (3, 4) and target.dtype == torch.float32
        there = target[~target.isnan().any(dim=1)]
        assert ((there >= 0) & (there <= 1)).all() and (there[:, :2] < there[:, 2:]).all()
    else:
        assert target.shape == (3, channels) and set(target.unique().tolist()) <= {0.0, 1.0, float(IGNORE)}


def test_labels_are_there_and_losses_see_them(data: Dataset) -> None:
    """Over a whole split every target has labels; a batch without any gives a loss of 0 that can be differentiated."""
    split = data.split("train")
    _, targets = split.batch(np.arange(len(split)), np.random.default_rng(1))
    for name, info in data.info.targets.items():
        task = make_task(TaskSpec(name, info.type, info.channels, class_names=info.class_names))
        shape = (len(split), info.channels, *((H, W) if task.dense else ()))
        output = torch.zeros(shape).normal_(generator=torch.Generator().manual_seed(0)).requires_grad_()
        meter = task.meter()
        meter.update(output, targets[name])
        task.loss(output, targets[name]).backward()
        assert output.grad is not None and torch.isfinite(output.grad).all()
        assert (output.grad.abs().sum() > 0) == (meter.count > 0)
        if data.info.name != "cifar100-mtl":  # 24 images do not reach 20 tasks
            assert meter.count > 0


def is_labelled(kind: str, target: torch.Tensor) -> bool:
    """Whether the target of one image says anything."""
    if kind == "box":
        return not bool(target.isnan().any())
    blank = {"classification": UNLABELLED, "depth": 0, "normals": 0, "disparity": -1}.get(kind, IGNORE)
    return not bool((target == blank).all())


def test_which_images_are_labelled_is_known_without_reading_them(data: Dataset) -> None:
    """As the pixels and labels say that are delivered."""
    split = data.split("select")
    _, targets = split.batch(np.arange(len(split)))
    for limit in (None, 1, 3):
        count = len(split) if limit is None else limit
        found = {
            name
            for name, info in data.info.targets.items()
            for i in range(count)
            if is_labelled(info.type, targets[name][i])
        }
        assert set(data.unlabelled("select", list(data.info.targets), limit)) == set(data.info.targets) - found


def test_everything_is_repeatable(subject: Subject, data: Dataset) -> None:
    again = subject.again()
    assert again.info == data.info
    for rngs in [(None, None), (np.random.default_rng(7), np.random.default_rng(7))]:
        first = data.split("calibrate").batch([1, 4], rngs[0])
        second = again.split("calibrate").batch([1, 4], rngs[1])
        assert torch.equal(first[0], second[0])
        assert all(torch.equal(first[1][name].nan_to_num(-7), second[1][name].nan_to_num(-7)) for name in first[1])


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


def test_fingerprint_follows_the_pixels(subject: Subject, data: Dataset) -> None:
    changes: list[dict[str, object]] = [{"height": 40}, {"train": 20}]
    others = [subject.again(**change).info.fingerprint for change in changes]
    assert len({data.info.fingerprint, *others}) == 3


def test_targets_can_be_chosen(subject: Subject, data: Dataset) -> None:
    *_, first, last = data.info.targets
    some = subject.again(targets=(last, first))
    assert list(some.split("calibrate").batch([0])[1]) == list(some.info.targets) == [first, last]
    # Nothing else depends on the choice: references that were trained on other targets of the set are the same.
    assert some.info.fingerprint == data.info.fingerprint
    drawn = [subset.split("train").batch([1, 0], np.random.default_rng(3)) for subset in (some, data)]
    assert torch.equal(drawn[0][0], drawn[1][0])
    for name, target in drawn[0][1].items():
        torch.testing.assert_close(target, drawn[1][1][name], rtol=0, atol=0, equal_nan=True)
    with pytest.raises(JobError, match=f"did you mean '{last}'"):
        subject.again(targets=(last[0] + last,))


def test_wrong_asks(data: Dataset) -> None:
    with pytest.raises(JobError, match="did you mean 'train'"):
        data.split("trian")
    split: Split = data.split("select")
    for bad in ([-1], [len(split)], []):
        with pytest.raises(JobError, match="indices"):
            split.batch(bad)
