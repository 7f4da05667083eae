"""`nyud-mt` and `nyud-atrc`: NYUv2 with 40 classes and edges, in the two packagings of the dense multi-task line.

| | `nyud-mt` (MTI-Net, the survey, M3ViT) | `nyud-atrc` (ATRC, InvPT, TaskPrompter, MTMamba) |
| --- | --- | --- |
| size | 480x640 | 425x560 |
| `images/ID` | `.jpg` | `.png` |
| `edge/ID` | `.npy` 0/1 | `.png` 0/255 |
| `segmentation/ID.png` | 0 = unlabelled, 1..40 | the same |
| `normals/ID` | `.npy` unit vectors | `.png`, 2x/255 - 1 |
| `depth/ID.npy` | metres, 0 = invalid | the same |

Both: `gt_sets/train.txt` (795) and `gt_sets/val.txt` (654). The two archives have been published under one name, so
the size and the endings are checked. Normals keep the axes of the files (x first). Splits: report = val, which the
field uses to choose and to report; select and calibrate are stretches out of train. Research use.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset, TargetInfo
from mtnas.data.config import DataConfig
from mtnas.data.fields import Labels, Mask, Metres, Vectors
from mtnas.data.normals import check_centred, decoded, unit_normals
from mtnas.data.nyuv2_mtan import plausible_metres
from mtnas.data.preset import Preset, open_preset
from mtnas.data.splits import carve, chosen, chunks_of
from mtnas.data.trees import Tree, array, expect_count, find_folder, image, within
from mtnas.tasks.spec import IGNORE

VERSION = "1"
COUNTS = {"train": 795, "val": 654}
STRETCH = 10
SIZES = {"nyud-mt": (480, 640), "nyud-atrc": (425, 560)}
ENDINGS = {
    "nyud-mt": {"images": "jpg", "edge": "npy", "segmentation": "png", "normals": "npy", "depth": "npy"},
    "nyud-atrc": {"images": "png", "edge": "png", "segmentation": "png", "normals": "png", "depth": "npy"},
}
CLASS_NAMES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refrigerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip


def open_nyud_mt(config: DataConfig, progress: Progress) -> Dataset:
    """The packaging of MTI-Net."""
    return open_nyud(config, progress, "nyud-mt", ("nyud-mt", "NYUD_MT"))


def open_nyud_atrc(config: DataConfig, progress: Progress) -> Dataset:
    """The packaging of ATRC."""
    return open_nyud(config, progress, "nyud-atrc", ("nyud-atrc", "NYUDv2"))


def open_nyud(config: DataConfig, progress: Progress, name: str, folders: tuple[str, ...]) -> Dataset:
    """Find and check the folders."""
    endings, size = ENDINGS[name], SIZES[name]
    folder = find_folder(config.root, name, folders, [*endings, "gt_sets/train.txt", "gt_sets/val.txt"])
    tree = Tree(folder)
    keys = {part: read_list(tree, part, endings) for part in COUNTS}
    pools = carve(chunks_of(keys["train"], STRETCH), config, ["select", "calibrate"])

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        files = {kind: f"{kind}/{key}.{ending}" for kind, ending in endings.items()}
        example: dict[str, Any] = {"image": image(tree, files["images"], 3, size=size)}
        if "segmentation" in wanted:
            example["segmentation"] = labels_of(tree, files["segmentation"], size)
        if "depth" in wanted:
            depth = array(tree, files["depth"], (), size=size).astype(np.float32)
            example["depth"] = plausible_metres(depth, tree.where(files["depth"]))
        if "normals" in wanted:
            example["normals"] = normals_of(tree, files["normals"], size)
        if "edges" in wanted:
            example["edges"] = edges_in(tree, files["edge"], size)
        return example

    picked = chosen({**pools, "report": keys["val"]}, config)
    check_centred(read, "train", picked["train"], tree.where("normals"))
    preset = Preset(
        name=name,
        version=VERSION,
        fields={
            "segmentation": Labels(TargetInfo("segmentation", 40, CLASS_NAMES)),
            "depth": Metres(TargetInfo("depth", 1)),
            "normals": Vectors(TargetInfo("normals", 3)),
            "edges": Mask(TargetInfo("edges", 1), thin_lines=True),
        },
        keys=picked,
        read=read,
        files=[
            folder / f"{kind}/{key}.{ending}"
            for group in picked.values()
            for key in group
            for kind, ending in endings.items()
        ],
        options={},
    )
    return open_preset(preset, config, progress)


def read_list(tree: Tree, part: str, endings: Mapping[str, str]) -> tuple[str, ...]:
    """The names of a part, in order; every file of each is there."""
    where = tree.where(f"gt_sets/{part}.txt")
    names = tuple(sorted(tree.lines(f"gt_sets/{part}.txt")))
    expect_count(len(set(names)), COUNTS[part], "different names", where)
    tree.require(f"{kind}/{name}.{ending}" for name in names for kind, ending in endings.items())
    return names


def labels_of(tree: Tree, name: str, size: tuple[int, int]) -> np.ndarray:
    """0 is unlabelled, 1..40 are the classes: delivered as 255 and 0..39."""
    labels = within(
        image(tree, name, 1, size=size), range(41), tree.where(name), "classes 1 to 40, or 0 for unlabelled"
    )
    return np.where(labels == 0, IGNORE, labels.astype(np.int64) - 1).astype(np.uint8)


def normals_of(tree: Tree, name: str, size: tuple[int, int]) -> np.ndarray:
    if name.endswith(".npy"):
        return unit_normals(array(tree, name, (3,), size=size), tree.where(name))
    return unit_normals(decoded(image(tree, name, 3, size=size)), tree.where(name))


def edges_in(tree: Tree, name: str, size: tuple[int, int]) -> np.ndarray:
    """0 and 1, out of 0/1 arrays or 0/255 pictures."""
    if name.endswith(".npy"):
        edges = array(tree, name, (), size=size)
        yes = 1
    else:
        edges = image(tree, name, 1, size=size)
        yes = 255
    if not np.isin(edges, (0, yes)).all():
        raise DataError(
            f"edges of 0 and {yes}",
            received=f"values from {edges.min():g} to {edges.max():g}",
            where=tree.where(name),
            cure="these edges belong to another packaging of the set",
        )
    return (edges == yes).astype(np.uint8)
