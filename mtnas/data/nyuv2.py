"""`nyuv2`: 1,350 Kinect images of rooms (Silberman, Hoiem, Kohli, Fergus, ECCV 2012) with segmentation, metric depth
and surface normals at 160x120. For research use: neither the data nor pictures of it may be shipped.

Splits: train = train.zip without the calibrate images, calibrate = whole runs of consecutive numbers out of train.zip
spread over the set (consecutive numbers show one scene), select = val.zip, report = test.zip. Edges are the borders of
the chosen classes, presence says which of them occur. Numbers are close to, but not the same as, published ones: this
packaging merges one class of 40 with the unlabelled pixels and derives normals from depth.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.files import content_hash, file_hash
from mtnas.base.progress import Progress
from mtnas.data.base import DataInfo, Dataset, TargetInfo, chosen_targets
from mtnas.data.compact import Compact, CompactSplit
from mtnas.data.config import DataConfig
from mtnas.data.nyuv2_files import (
    ARCHIVES,
    HEIGHT,
    WIDTH,
    Archive,
    Classes,
    Example,
    find_folder,
    read_classes,
    read_numbers,
)
from mtnas.data.resample import Resampler
from mtnas.data.splits import chosen, held_back, runs_of

#: raise it whenever what is made of the files changes
VERSION = "1"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CALIBRATE_SHARE = 0.1
ARCHIVE_OF = {"train": "train", "calibrate": "train", "select": "val", "report": "test"}


def open_nyuv2(config: DataConfig, progress: Progress) -> Dataset:
    """Find and check the files; images are decoded when a split is first asked for."""
    folder = find_folder(config.root)
    classes = read_classes(folder, config.classes or 13)
    numbers = read_numbers(folder)
    for name in ARCHIVES:
        Archive(folder / f"{name}.zip", numbers[name]).close()
    picked = split_numbers(numbers, config, folder)
    info = DataInfo(
        name="nyuv2",
        version=VERSION,
        height=config.height,
        width=config.width,
        mean=MEAN,
        std=STD,
        targets=chosen_targets(targets_of(classes), config.targets),
        sizes={split: len(group) for split, group in picked.items()},
        fingerprint=fingerprint(folder, config, picked),
        research_only=True,
    )
    return Dataset(
        info,
        {split: partial(_read_split, folder, classes, info, split, group, progress) for split, group in picked.items()},
    )


def targets_of(classes: Classes) -> dict[str, TargetInfo]:
    count = len(classes.names)
    return {
        "segmentation": TargetInfo("segmentation", count, classes.names),
        "depth": TargetInfo("depth", 1),
        "normals": TargetInfo("normals", 3),
        "edges": TargetInfo("edges", 1),
        "presence": TargetInfo("presence", count, classes.names),
    }


def fingerprint(folder: Path, config: DataConfig, picked: dict[str, tuple[int, ...]]) -> str:
    """Hash of the files' bytes, the chosen images and the size."""
    files = [*(f"{name}.zip" for name in ARCHIVES), "classes.json"]
    recipe = {
        "name": "nyuv2",
        "version": VERSION,
        "files": {name: file_hash(folder / name) for name in files},
        "size": [config.height, config.width],
        "classes": config.classes or 13,
        "numbers": {split: list(group) for split, group in picked.items()},
    }
    return content_hash(recipe)


def split_numbers(numbers: dict[str, tuple[int, ...]], config: DataConfig, folder: Path) -> dict[str, tuple[int, ...]]:
    """Image numbers of the four splits."""
    runs = runs_of(numbers["train"])
    if len(runs) < 2:
        raise DataError(
            "at least two runs of consecutive image numbers, to keep calibrate and train apart",
            received=f"{len(runs)} in train",
            where=str(folder / "splits.json"),
        )
    wanted = config.calibrate or max(1, round(CALIBRATE_SHARE * len(numbers["train"])))
    held = held_back(runs, wanted)
    pools = {
        "train": tuple(number for number in numbers["train"] if number not in set(held)),
        "calibrate": held,
        "select": numbers["val"],
        "report": numbers["test"],
    }
    return chosen(pools, config)


def _read_split(
    folder: Path, classes: Classes, info: DataInfo, split: str, numbers: tuple[int, ...], progress: Progress
) -> CompactSplit:
    arrays = Compact.empty(len(numbers), info.height, info.width)
    resampler = Resampler((HEIGHT, WIDTH), (info.height, info.width))
    archive = Archive(folder / f"{ARCHIVE_OF[split]}.zip", numbers)
    try:
        with progress.task(f"read nyuv2, {split}", len(numbers)) as bar:
            for row, number in enumerate(numbers):
                _store(arrays, row, archive.read(number), classes, resampler)
                bar.advance()
    finally:
        archive.close()
    return CompactSplit(split, arrays, info)


def _store(arrays: Compact, row: int, example: Example, classes: Classes, resampler: Resampler) -> None:
    """Bring one image and its labels to the wanted size, into compact types."""
    labels = resampler.labels(classes.lookup_256[example.seg40_HW])
    arrays.image_NHW3[row] = np.rint(resampler.mean(example.rgb_HW3))
    arrays.segmentation_NHW[row] = labels
    arrays.parts_NHW[row] = labels
    arrays.depth_NHW[row] = np.rint(1000 * resampler.depth(example.depth_m_HW))
    arrays.normals_NHW3[row] = np.rint(127 * resampler.normals(example.normals_HW3))
