"""`cityscapes-mtan`: Cityscapes as packed by MTAN: 7, 19 or 2 classes and inverse depth, 128x256 or 256x512.

Layout: `train/` (2,975) and `val/` (500) with `image/K.npy` (float HxWx3, 0..1), `label_7/K.npy`, `label_19/K.npy` or
`label_2/K.npy` (HxW, -1 = ignore), `depth/K.npy` (HxWx1, 0 = invalid). What the files call depth is disparity: the
16-bit PNG scaled to 0..1, so 0.0125 is about 3.2 pixels at full width. It is delivered in that unit, which published
tables use; their relative error is ruled by tiny values and is not computed here. Splits: report = val, which the
field uses to choose and to report; select and calibrate are stretches out of train. Non-commercial use, no
redistribution.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset, TargetInfo
from mtnas.data.cityscapes_names import NAMES
from mtnas.data.config import CLASSES, DataConfig
from mtnas.data.fields import Borders, Disparity, Labels
from mtnas.data.npy_sets import floats_to_image, keys_of, labels_to_uint8
from mtnas.data.preset import Preset, open_preset
from mtnas.data.splits import carve, chosen, chunks_of
from mtnas.data.trees import Tree, array, find_folder

VERSION = "1"
SIZES = ((128, 256), (256, 512))
COUNTS = {"train": 2975, "val": 500}
#: frames that stay together: neighbours show one street
STRETCH = 25


def open_cityscapes_mtan(config: DataConfig, progress: Progress) -> Dataset:
    """Find and check the folders."""
    classes = config.classes or CLASSES["cityscapes-mtan"][0]
    kinds = ("image", f"label_{classes}", "depth")
    folder = find_folder(
        config.root,
        "cityscapes-mtan",
        ("cityscapes-mtan", "cityscapes2", "cityscapes"),
        [f"{part}/{kind}" for part in COUNTS for kind in kinds],
    )
    tree = Tree(folder)
    keys = {part: keys_of(tree, part, kinds, COUNTS[part]) for part in COUNTS}
    pools = carve(chunks_of(keys["train"], STRETCH), config, ["select", "calibrate"])

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        part, number = str(key).split("/")
        files = [f"{part}/{kind}/{number}.npy" for kind in kinds]
        picture = floats_to_image(tree, files[0])
        size = (picture.shape[0], picture.shape[1])
        if size not in SIZES:
            raise DataError(
                " or ".join(f"{h}x{w}" for h, w in SIZES), received=f"{size[0]}x{size[1]}", where=tree.where(files[0])
            )
        return {
            "image": picture,
            "segmentation": labels_to_uint8(tree, files[1], size, classes),
            "disparity": inverse_depth(tree, files[2], size),
        }

    picked = chosen({**pools, "report": keys["val"]}, config)
    preset = Preset(
        name="cityscapes-mtan",
        version=VERSION,
        fields={
            "segmentation": Labels(TargetInfo("segmentation", classes, NAMES[classes])),
            "disparity": Disparity(TargetInfo("disparity", 1)),
            "edges": Borders(TargetInfo("edges", 1)),
        },
        keys=picked,
        read=read,
        files=[
            folder / part / kind / f"{number}.npy"
            for group in picked.values()
            for part, number in (key.split("/") for key in group)
            for kind in kinds
        ],
        options={"classes": classes},
    )
    return open_preset(preset, config, progress)


def inverse_depth(tree: Tree, name: str, size: tuple[int, int]) -> np.ndarray:
    """Disparity in the unit of the files, -1 where they hold 0."""
    values = array(tree, name, (1,), size=size)[..., 0].astype(np.float32)
    if values.min() < 0 or values.max() > 1:
        raise DataError(
            "inverse depth from 0 to 1",
            received=f"values from {values.min():g} to {values.max():g}",
            where=tree.where(name),
            cure="metres or raw 16-bit values belong to another packaging",
        )
    return np.where(values == 0, np.float32(-1), values)
