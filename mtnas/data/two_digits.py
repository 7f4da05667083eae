"""`multimnist` and `multifashion`: two small pictures on one canvas of 36x36, two tasks: which lies top left, which
bottom right. After Sener and Koltun (NeurIPS 2018) and Lin et al. (Pareto MTL, NeurIPS 2019), with a seed.

The first lies at (0, 0), the second at (8, 8), the brighter pixel wins. Every picture of a split is the first one
once; its partner is drawn from the same split by a seeded shuffle, so the set is the same for everybody (the published
builders drew partners unseeded: numbers are close to, but not the same as, published ones).

Layout of the sources `mnist` and `fashion_mnist`: `train.npy.xz`, `val.npy.xz`, `test.npy.xz`, uint8 (N,28,28);
`labels.npz` with `train`, `val`, `test`; `classes.json` with ten `names`. Splits: calibrate = the end of train, select
= val, report = test; pictures are parted before they are paired.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.base.seeds import generator
from mtnas.data.augment import Recipe
from mtnas.data.base import Dataset, TargetInfo
from mtnas.data.config import SPLITS, DataConfig
from mtnas.data.fields import Class
from mtnas.data.preset import Preset, open_preset
from mtnas.data.splits import chosen
from mtnas.data.trees import FETCH_CURE, Tree, find_folder

VERSION = "1"
SIDE, CANVAS = 28, 36
FILES = ("train", "val", "test")
CALIBRATE = 1000
#: neither flips nor zooms: they change what a digit is
RECIPE = Recipe(zooms=(1.0,), flip=False, pad=2 / CANVAS, colours=False)


def open_multimnist(config: DataConfig, progress: Progress) -> Dataset:
    """Two digits."""
    return open_pairs(config, progress, "multimnist", "mnist", (0.1307, 0.3081))


def open_multifashion(config: DataConfig, progress: Progress) -> Dataset:
    """Two garments."""
    return open_pairs(config, progress, "multifashion", "fashion_mnist", (0.2860, 0.3530))


def open_pairs(config: DataConfig, progress: Progress, name: str, source: str, norm: tuple[float, float]) -> Dataset:
    """Find and check the source; it is small enough to be read at once."""
    marks = ["labels.npz", "classes.json", *(f"{file}.npy.xz" for file in FILES)]
    folder = find_folder(config.root, name, (name, source), marks)
    classes = tuple(Tree(folder).object("classes.json", ["names"])["names"])
    if len(classes) != 10:
        raise DataError("ten class names", received=str(len(classes)), where=str(folder / "classes.json"))
    pictures, labels = read_source(folder)
    pools = parted(pictures, config)
    partners = {split: generator(0, name, VERSION, split).permutation(pools[split]) for split in SPLITS}
    starts = {split: int(pools[split][0]) for split in SPLITS}

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        file, first = str(key).split(":")
        second = int(partners[split][int(first) - starts[split]])
        canvas = paste(pictures[file][int(first)], pictures[file][second])
        image = np.repeat(canvas[..., None], 3, axis=-1)
        return {"image": image, "left": labels[file][int(first)], "right": labels[file][second]}

    file_of = {"train": "train", "calibrate": "train", "select": "val", "report": "test"}
    keys = {split: tuple(f"{file_of[split]}:{row}" for row in pools[split]) for split in SPLITS}
    preset = Preset(
        name=name,
        version=VERSION,
        fields={side: Class(TargetInfo("classification", 10, classes)) for side in ("left", "right")},
        keys=chosen(keys, config, first=True),
        read=read,
        files=[folder / mark for mark in marks],
        options={},
        recipe=RECIPE,
        mean=(norm[0],) * 3,
        std=(norm[1],) * 3,
        research_only=source == "mnist",
    )
    return open_preset(preset, config, progress)


def paste(first_HW: np.ndarray, second_HW: np.ndarray) -> np.ndarray:
    """Two pictures on a canvas, uint8 (36,36)."""
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    canvas[:SIDE, :SIDE] = first_HW
    corner = canvas[CANVAS - SIDE :, CANVAS - SIDE :]
    np.maximum(corner, second_HW, out=corner)
    return canvas


def parted(pictures: dict[str, np.ndarray], config: DataConfig) -> dict[str, np.ndarray]:
    """Row numbers of each split in its file."""
    count = len(pictures["train"])
    held = config.calibrate or min(CALIBRATE, count // 10)
    if not 0 < held < count:
        raise DataError(f"1 to {count - 1} images", received=str(held), where="data.calibrate")
    return {
        "train": np.arange(count - held),
        "calibrate": np.arange(count - held, count),
        "select": np.arange(len(pictures["val"])),
        "report": np.arange(len(pictures["test"])),
    }


def read_source(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Pictures and labels of the three files."""
    try:
        with np.load(io.BytesIO(Tree(folder).read("labels.npz")), allow_pickle=False) as archive:
            labels = {file: archive[file] for file in FILES}
        pictures = {
            file: np.load(io.BytesIO(lzma.decompress((folder / f"{file}.npy.xz").read_bytes())), allow_pickle=False)
            for file in FILES
        }
    except (KeyError, ValueError, OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(
            "readable pictures and labels", received=str(error), where=str(folder), cure=FETCH_CURE
        ) from error
    for file in FILES:
        shape = (len(labels[file]), SIDE, SIDE)
        if pictures[file].shape != shape or pictures[file].dtype != np.uint8 or not (labels[file] <= 9).all():
            raise DataError(
                f"uint8 of shape {shape} with labels 0 to 9",
                received=f"{pictures[file].dtype.name} of shape {pictures[file].shape}, labels up to "
                f"{labels[file].max(initial=0)}",
                where=str(folder / f"{file}.npy.xz"),
                cure=FETCH_CURE,
            )
    return pictures, labels
