"""`nyuv2-mtan`: NYUv2 as packed by MTAN and used by LibMTL, CAGrad, Nash-MTL, FAMO, Aligned-MTL: 13 classes, 288x384.

Layout: `train/` and `val/` with `image/K.npy` (float HxWx3, 0..1), `label/K.npy` (HxW, -1 = ignore, 0..12),
`depth/K.npy` (HxWx1 metres, 0 = invalid), `normal/K.npy` (HxWx3 unit vectors, 0 = invalid), K = 0..794 and 0..653.
Normals keep the axes of the files (x first). Splits: report = val, which the field uses to choose and to report; here
select and calibrate are stretches of neighbouring frames out of train, and train is what is left. Research use.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset, TargetInfo
from mtnas.data.config import DataConfig
from mtnas.data.fields import Borders, Labels, Metres, Vectors
from mtnas.data.normals import check_centred, unit_normals
from mtnas.data.npy_sets import floats_to_image, keys_of, labels_to_uint8
from mtnas.data.preset import Preset, open_preset
from mtnas.data.splits import carve, chosen, chunks_of
from mtnas.data.trees import Tree, array, find_folder

VERSION = "1"
SIZE = (288, 384)
COUNTS = {"train": 795, "val": 654}
KINDS = ("image", "label", "depth", "normal")
#: frames that stay together: neighbours show one scene
STRETCH = 10
FARTHEST_M = 20.0
CLASS_NAMES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
    "window",
)  # fmt: skip


def open_nyuv2_mtan(config: DataConfig, progress: Progress) -> Dataset:
    """Find and check the folders."""
    folder = find_folder(
        config.root, "nyuv2-mtan", ("nyuv2-mtan", "nyuv2"), [f"{part}/{kind}" for part in COUNTS for kind in KINDS]
    )
    tree = Tree(folder)
    keys = {part: keys_of(tree, part, KINDS, COUNTS[part]) for part in COUNTS}
    pools = carve(chunks_of(keys["train"], STRETCH), config, ["select", "calibrate"])

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        part, number = str(key).split("/")
        names = {kind: f"{part}/{kind}/{number}.npy" for kind in KINDS}
        example: dict[str, Any] = {"image": floats_to_image(tree, names["image"], SIZE)}
        if "segmentation" in wanted:
            example["segmentation"] = labels_to_uint8(tree, names["label"], SIZE, len(CLASS_NAMES))
        if "depth" in wanted:
            example["depth"] = metres(tree, names["depth"])
        if "normals" in wanted:
            example["normals"] = unit_normals(
                array(tree, names["normal"], (3,), size=SIZE), tree.where(names["normal"])
            )
        return example

    picked = chosen({**pools, "report": keys["val"]}, config)
    check_centred(read, "train", picked["train"], tree.where("train/normal"))
    preset = Preset(
        name="nyuv2-mtan",
        version=VERSION,
        fields={
            "segmentation": Labels(TargetInfo("segmentation", 13, CLASS_NAMES)),
            "depth": Metres(TargetInfo("depth", 1)),
            "normals": Vectors(TargetInfo("normals", 3)),
            "edges": Borders(TargetInfo("edges", 1)),
        },
        keys=picked,
        read=read,
        files=[
            folder / part / kind / f"{key.split('/')[1]}.npy"
            for part, kind, key in (
                (key.split("/")[0], kind, key) for group in picked.values() for key in group for kind in KINDS
            )
        ],
        options={},
    )
    return open_preset(preset, config, progress)


def metres(tree: Tree, name: str) -> np.ndarray:
    """Depth of a file, float32 (H,W), checked for its unit."""
    depth = array(tree, name, (1,), size=SIZE)[..., 0].astype(np.float32)
    return plausible_metres(depth, tree.where(name))


def plausible_metres(depth: np.ndarray, where: str) -> np.ndarray:
    """The depth, or an error when it cannot be metres of rooms."""
    largest = float(depth.max(initial=0))
    if depth.min(initial=0) < 0 or not 0.3 < largest <= FARTHEST_M:
        raise DataError(
            f"depth in metres, up to {FARTHEST_M:g}, 0 = invalid",
            received=f"values from {float(depth.min(initial=0)):g} to {largest:g}",
            where=where,
            cure="other packagings store millimetres or inverse depth",
        )
    return depth
