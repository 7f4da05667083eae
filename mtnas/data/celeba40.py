"""`celeba40`: faces with 40 yes-or-no attributes (Liu, Luo, Wang, Tang, ICCV 2015): 40 tasks on one image.

Layout: `img_align_celeba/ID.jpg` (178x218; also accepted under `Img/`), `Anno/list_attr_celeba.txt` (a count, 40
names, then ID and 40 times +1 or -1), `Eval/list_eval_partition.txt` (ID and 0 train, 1 val, 2 test: 162,770 / 19,867
/ 19,962). The picture is squeezed to the job's size. Splits: calibrate = the end of train (identities do not cross the
parts), select = val, report = test. Labels are noisy (an audit found one of five "mouth slightly open" wrong), and
these are faces of real people: non-commercial research only.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.data.augment import Recipe
from mtnas.data.base import Dataset, TargetInfo
from mtnas.data.config import DataConfig
from mtnas.data.fields import Flags
from mtnas.data.preset import Preset, open_preset
from mtnas.data.splits import chosen
from mtnas.data.trees import FETCH_CURE, Tree, expect_count, find_folder, image

VERSION = "1"
SIZE = (218, 178)
ATTRIBUTES = 40
COUNTS = (162770, 19867, 19962)
LABELS, PARTS = "Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt"
CALIBRATE = 2000
RECIPE = Recipe(zooms=(1.0,), flip=True, pad=0.05, colours=False)


def open_celeba40(config: DataConfig, progress: Progress) -> Dataset:
    """Find and check the lists and pictures."""
    folder = find_folder(config.root, "celeba40", ("celeba40", "celeba", "CelebA"), [LABELS, PARTS])
    tree = Tree(folder)
    names, labels = read_attributes(tree)
    parts = read_partition(tree, labels)
    pictures = next((p for p in ("img_align_celeba", "Img/img_align_celeba") if (folder / p).is_dir()), None)
    if pictures is None:
        raise DataError("img_align_celeba/", received="no such folder", where=str(folder), cure=FETCH_CURE)
    tree.require(f"{pictures}/{key}" for part in parts for key in part)

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        flags = labels[str(key)]
        picture = image(tree, f"{pictures}/{key}", 3, size=SIZE)
        return {"image": picture, **{name: flags[place : place + 1] for place, name in enumerate(names)}}

    held = config.calibrate or min(CALIBRATE, len(parts[0]) // 10)
    pools = {"train": parts[0][:-held], "calibrate": parts[0][-held:], "select": parts[1], "report": parts[2]}
    picked = chosen(pools, config)
    preset = Preset(
        name="celeba40",
        version=VERSION,
        fields={name: Flags(TargetInfo("attribute", 1, (name,))) for name in names},
        keys=picked,
        read=read,
        files=[folder / LABELS, *(folder / pictures / key for group in picked.values() for key in group)],
        options={},
        recipe=RECIPE,
    )
    return open_preset(preset, config, progress)


def read_attributes(tree: Tree) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Names as task names, and 0/1 of each image, uint8 (40,)."""
    lines = tree.lines(LABELS)
    names = tuple(re.sub(r"\W", "_", name).lower() for name in lines[1].split()) if len(lines) > 2 else ()
    if names and names[0][0].isdigit():
        names = (f"has_{names[0]}", *names[1:])
    if len(names) != ATTRIBUTES:
        raise DataError(
            "a count, 40 names, then one line for each image",
            received=f"{len(names)} names",
            where=tree.where(LABELS),
            cure=FETCH_CURE,
        )
    labels: dict[str, np.ndarray] = {}
    for number, line in enumerate(lines[2:], start=3):
        key, *values = line.split()
        if len(values) != ATTRIBUTES or not set(values) <= {"1", "-1"}:
            raise DataError(
                "an image and 40 times 1 or -1",
                received=f"{len(values)} values: {' '.join(values[:5])} ...",
                where=f"{tree.where(LABELS)}, line {number}",
                cure=FETCH_CURE,
            )
        labels[key] = np.array([value == "1" for value in values], np.uint8)
    return names, labels


def read_partition(tree: Tree, labels: dict[str, np.ndarray]) -> list[tuple[str, ...]]:
    """Images of train, val and test in the order of the file."""
    parts: list[list[str]] = [[], [], []]
    for number, line in enumerate(tree.lines(PARTS), start=1):
        key, _, part = line.partition(" ")
        if part.strip() not in {"0", "1", "2"} or key not in labels:
            raise DataError(
                "a labelled image and 0, 1 or 2",
                received=repr(line),
                where=f"{tree.where(PARTS)}, line {number}",
                cure=FETCH_CURE,
            )
        parts[int(part)].append(key)
    for group, count, name in zip(parts, COUNTS, ("train", "val", "test")):
        expect_count(len(group), count, f"images of {name}", tree.where(PARTS))
    return [tuple(group) for group in parts]
