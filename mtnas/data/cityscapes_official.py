"""`cityscapes-official`: the official files of Cityscapes (Cordts et al., CVPR 2016), 1024x2048, 19 classes or 7
categories.

Layout, for PART = train (2,975) and val (500): `leftImg8bit/PART/CITY/NAME_leftImg8bit.png`,
`gtFine/PART/CITY/NAME_gtFine_labelIds.png` (label ids 0..33; 255 is the licence plate),
`disparity/PART/CITY/NAME_disparity.png` (uint16: 0 = invalid, else (value - 1) / 256 pixels). Disparity is delivered in
pixels of the delivered picture, so it shrinks with the width. The 7 categories hold the 19 evaluated classes only.
Splits: report = val, whose cities are in no other split; select and calibrate are whole cities out of train.
Non-commercial use, no redistribution.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset, TargetInfo
from mtnas.data.cityscapes_names import CATEGORY_19, IDS_19, NAMES
from mtnas.data.config import CLASSES, DataConfig
from mtnas.data.fields import Borders, Disparity, Labels
from mtnas.data.preset import Preset, open_preset
from mtnas.data.splits import carve, chosen
from mtnas.data.trees import Tree, expect_count, find_folder, image, within
from mtnas.tasks.spec import IGNORE

VERSION = "1"
SIZE = (1024, 2048)
COUNTS = {"train": 2975, "val": 500}
ENDINGS = {
    "leftImg8bit": "leftImg8bit.png",
    "gtFine": "gtFine_labelIds.png",
    "disparity": "disparity.png",
}


def open_cityscapes_official(config: DataConfig, progress: Progress) -> Dataset:
    """Find and check the folders."""
    classes = config.classes or CLASSES["cityscapes-official"][0]
    folder = find_folder(
        config.root,
        "cityscapes-official",
        ("cityscapes-official", "cityscapes"),
        [f"{kind}/{part}" for kind in ENDINGS for part in COUNTS],
    )
    tree, table = Tree(folder), lookup_table(classes)
    cities = {part: read_cities(tree, part) for part in COUNTS}
    pools = carve(cities["train"], config, ["select", "calibrate"])

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        files = files_of(str(key))
        example: dict[str, Any] = {"image": image(tree, files["leftImg8bit"], 3, size=SIZE)}
        if "segmentation" in wanted:
            ids = image(tree, files["gtFine"], 1, size=SIZE)
            within(ids, [*range(34), 255], tree.where(files["gtFine"]), "label ids 0 to 33, or 255")
            example["segmentation"] = table[ids]
        if "disparity" in wanted:
            raw = image(tree, files["disparity"], 1, size=SIZE, dtype=np.uint16).astype(np.float32)
            example["disparity"] = np.where(raw == 0, -1, (raw - 1) / 256).astype(np.float32)
        return example

    val = tuple(key for city in cities["val"] for key in city)
    picked = chosen({**pools, "report": val}, config)
    preset = Preset(
        name="cityscapes-official",
        version=VERSION,
        fields={
            "segmentation": Labels(TargetInfo("segmentation", classes, NAMES[classes])),
            "disparity": Disparity(TargetInfo("disparity", 1), pixels=True),
            "edges": Borders(TargetInfo("edges", 1)),
        },
        keys=picked,
        read=read,
        files=[folder / file for group in picked.values() for key in group for file in files_of(key).values()],
        options={"classes": classes},
    )
    return open_preset(preset, config, progress)


def files_of(key: str) -> dict[str, str]:
    """Files of `PART/CITY/NAME`."""
    return {kind: f"{kind}/{key}_{ending}" for kind, ending in ENDINGS.items()}


def read_cities(tree: Tree, part: str) -> list[tuple[str, ...]]:
    """Keys of a part, city by city; all three files of each are there."""
    ending = "_" + ENDINGS["leftImg8bit"]
    top = tree.root / "leftImg8bit" / part
    cities = []
    for city in sorted(path for path in top.iterdir() if path.is_dir()):
        names = sorted(path.name.removesuffix(ending) for path in city.glob(f"*{ending}"))
        cities.append(tuple(f"{part}/{city.name}/{name}" for name in names))
    cities = [city for city in cities if city]
    expect_count(sum(len(city) for city in cities), COUNTS[part], f"files CITY/NAME{ending}", str(top))
    tree.require(file for city in cities for key in city for file in files_of(key).values())
    if part == "train" and len(cities) < 3:
        raise DataError("at least three cities", received=str(len(cities)), where=str(top))
    return cities


def lookup_table(classes: int) -> np.ndarray:
    """From label ids to delivered classes, uint8 (256,)."""
    table = np.full(256, IGNORE, np.uint8)
    table[list(IDS_19)] = np.arange(19) if classes == 19 else CATEGORY_19
    return table
