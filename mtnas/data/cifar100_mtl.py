"""`cifar100-mtl`: CIFAR-100 (Krizhevsky, 2009) as 20 tasks of five classes; an image belongs to exactly one task.

The tasks are the superclasses; the labels of one are its five classes in ascending order of their CIFAR-100 numbers.
In a mixed batch each image is labelled for its own task and for none of the other 19, so a task's loss sees 1 image in
20.

Layout: `train_0.npy.xz` .. `train_4.npy.xz`, `val.npy.xz`, `test.npy.xz`: residuals, uint8 (3,N,32,32), planes G, R-G,
B-G modulo 256 and then differences along x and y; `labels.npz` with `<file>_fine`; `classes.json` with `fine_names`,
`coarse_names`, `fine_to_coarse`, `fine_to_within`. Splits: calibrate is the end of the last training file, train all
before it, select = val (cut from the original training set), report = test. Research use.
"""

from __future__ import annotations

import io
import lzma
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.data.augment import Recipe
from mtnas.data.base import Dataset, TargetInfo
from mtnas.data.config import DataConfig
from mtnas.data.fields import Class
from mtnas.data.preset import Preset, open_preset
from mtnas.data.splits import chosen
from mtnas.data.trees import FETCH_CURE, Tree, find_folder

VERSION = "1"
TRAIN = tuple(f"train_{i}" for i in range(5))
FILES = (*TRAIN, "val", "test")
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
SIDE = 32
TASKS, WITHIN = 20, 5
CALIBRATE = 2000
#: flip, and shifts of up to 4 pixels: the usual augmentation of this set
RECIPE = Recipe(zooms=(1.0,), flip=True, pad=4 / SIDE, colours=False)


def open_cifar100_mtl(config: DataConfig, progress: Progress) -> Dataset:
    """Find and check the files; a file is unpacked when a split needs it."""
    folder = find_folder(
        config.root,
        "cifar100-mtl",
        ("cifar100-mtl", "cifar100"),
        ["classes.json", "labels.npz", *(f"{name}.npy.xz" for name in FILES)],
    )
    names, coarse_100, within_100 = read_classes(folder)
    fine = read_labels(folder)
    pictures: dict[str, np.ndarray] = {}

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        file, row = str(key).split(":")
        if file not in pictures:
            pictures.clear()  # one file at a time: keys come file by file
            pictures[file] = unpack(folder / f"{file}.npy.xz", len(fine[file]))
        label = int(fine[file][int(row)])
        task = list(names)[coarse_100[label]]
        return {"image": pictures[file][int(row)], task: within_100[label]}

    def labels(split: str, key: Hashable, target: str) -> bool:
        file, row = str(key).split(":")
        return list(names)[coarse_100[int(fine[file][int(row)])]] == target

    keys = {file: tuple(f"{file}:{row}" for row in range(len(fine[file]))) for file in FILES}
    training = tuple(key for file in TRAIN for key in keys[file])
    held = config.calibrate or min(CALIBRATE, len(training) // 10)
    pools = {
        "train": training[: len(training) - held],
        "calibrate": training[len(training) - held :],
        "select": keys["val"],
        "report": keys["test"],
    }
    preset = Preset(
        name="cifar100-mtl",
        version=VERSION,
        fields={name: Class(TargetInfo("classification", WITHIN, classes)) for name, classes in names.items()},
        keys=chosen(pools, config, first=True),
        read=read,
        files=[folder / name for name in ("labels.npz", "classes.json", *(f"{file}.npy.xz" for file in FILES))],
        options={},
        recipe=RECIPE,
        mean=MEAN,
        std=STD,
        labels=labels,
    )
    return open_preset(preset, config, progress)


def read_classes(folder: Path) -> tuple[dict[str, tuple[str, ...]], list[int], list[int]]:
    """Classes of each task, the task of each of the 100 classes, and its number there."""
    raw = Tree(folder).object("classes.json", ("fine_names", "coarse_names", "fine_to_coarse", "fine_to_within"))
    coarse, within = list(raw["fine_to_coarse"]), list(raw["fine_to_within"])
    expected = [sorted(i for i in range(len(coarse)) if coarse[i] == coarse[f]).index(f) for f in range(len(coarse))]
    if len(raw["fine_names"]) != 100 or sorted(coarse) != sorted(list(range(TASKS)) * WITHIN) or within != expected:
        raise DataError(
            "100 classes in 20 superclasses of five, numbered 0 to 4 in the order of the 100",
            received=f"{len(coarse)} classes in {len(set(coarse))} superclasses, first numbers {within[:5]}",
            where=str(folder / "classes.json"),
            cure=FETCH_CURE,
        )
    names = {}
    for task, name in enumerate(raw["coarse_names"]):
        members = tuple(raw["fine_names"][f] for f in range(100) if coarse[f] == task)
        names[re.sub(r"\W", "_", name)] = members
    return names, coarse, within


def read_labels(folder: Path) -> dict[str, np.ndarray]:
    """Fine labels of each file."""
    where = str(folder / "labels.npz")
    try:
        with np.load(io.BytesIO(Tree(folder).read("labels.npz")), allow_pickle=False) as archive:
            labels = {file: archive[f"{file}_fine"] for file in FILES}
    except (KeyError, ValueError, OSError) as error:
        raise DataError("fine labels of every file", received=str(error), where=where, cure=FETCH_CURE) from error
    if wrong := [file for file, fine in labels.items() if fine.ndim != 1 or not len(fine) or fine.max() > 99]:
        raise DataError("labels 0 to 99", received=f"others in {wrong[0]}_fine", where=where, cure=FETCH_CURE)
    return labels


def unpack(path: Path, count: int) -> np.ndarray:
    """Pictures of a residual file, uint8 (N,32,32,3)."""
    try:
        residual_3NHW = np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False)
    except (lzma.LZMAError, ValueError, OSError, EOFError) as error:
        raise DataError("a readable .npy.xz file", received=str(error), where=str(path), cure=FETCH_CURE) from error
    if residual_3NHW.shape != (3, count, SIDE, SIDE) or residual_3NHW.dtype != np.uint8:
        raise DataError(
            f"uint8 of shape (3, {count}, {SIDE}, {SIDE})",
            received=f"{residual_3NHW.dtype.name} of shape {residual_3NHW.shape}",
            where=str(path),
            cure=FETCH_CURE,
        )
    green, red, blue = np.cumsum(np.cumsum(residual_3NHW, -2, dtype=np.uint8), -1, dtype=np.uint8)
    return np.stack([red + green, green, blue + green], axis=-1)
