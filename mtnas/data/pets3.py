"""`pets3`: three breeds of the Oxford-IIIT Pet set (Parkhi, Vedaldi, Zisserman, Jawahar, CVPR 2012), 128x128.

Layout: `train.zip`, `val.zip`, `test.zip` with `rgb/NAME.jpg`, `trimap/NAME.png` (uint8: 0 pet, 1 background, 2
border) and `labels.csv` (name, breed, species, orig_w, orig_h, body and head box as x0, y0, x1, y1 in shares of the
sides); and `classes.json`. Five tasks; the head box is there for about half of the images. Research use.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Hashable
from typing import Any

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset, TargetInfo
from mtnas.data.config import DataConfig
from mtnas.data.fields import Box, Class, Labels
from mtnas.data.preset import Preset, open_preset
from mtnas.data.splits import carve, chosen, chunks_of
from mtnas.data.trees import FETCH_CURE, Tree, ZipTree, find_folder, image, within

VERSION = "1"
SIZE = (128, 128)
ARCHIVES = ("train", "val", "test")
ARCHIVE_OF = {"train": "train", "calibrate": "train", "select": "val", "report": "test"}
NAMES = {"breed": "breed_names", "species": "species_names", "trimap": "trimap_names"}
COUNTS = {"breed": 3, "species": 2, "trimap": 3}
BOXES = ("body", "head")
CORNERS = ("x0", "y0", "x1", "y1")
COLUMNS = ("name", "breed", "species", *(f"{box}_{corner}" for box in BOXES for corner in CORNERS))

Row = dict[str, str]


def open_pets3(config: DataConfig, progress: Progress) -> Dataset:
    """Find and check the archives and their tables."""
    folder = find_folder(config.root, "pets3", ("pets3",), ["classes.json", *(f"{name}.zip" for name in ARCHIVES)])
    raw = Tree(folder).object("classes.json", tuple(NAMES.values()))
    names = {target: tuple(raw[key]) for target, key in NAMES.items()}
    if (counts := {target: len(found) for target, found in names.items()}) != COUNTS:
        raise DataError(f"names of {COUNTS}", received=str(counts), where=str(folder / "classes.json"))
    trees = {name: ZipTree(folder / f"{name}.zip") for name in ARCHIVES}
    tables = {name: read_table(tree) for name, tree in trees.items()}
    # the table is sorted by breed: single images, taken evenly, keep the shares
    pools = carve(chunks_of(tuple(tables["train"]), 1), config, ["calibrate"])

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        archive = ARCHIVE_OF[split]
        tree, row = trees[archive], tables[archive][str(key)]
        trimap = image(tree, f"trimap/{key}.png", 1, size=SIZE)
        within(trimap, range(3), tree.where(f"trimap/{key}.png"), "0 pet, 1 background, 2 border")
        return {
            "image": image(tree, f"rgb/{key}.jpg", 3, size=SIZE),
            "trimap": trimap,
            **{name: label_of(row, name, tree) for name in ("breed", "species")},
            **{name: box_of(row, name, tree) for name in BOXES},
        }

    def labels(split: str, key: Hashable, target: str) -> bool:
        archive = ARCHIVE_OF[split]
        return target not in BOXES or box_of(tables[archive][str(key)], target, trees[archive]) is not None

    preset = Preset(
        name="pets3",
        version=VERSION,
        fields={
            "breed": Class(TargetInfo("classification", 3, names["breed"])),
            "species": Class(TargetInfo("classification", 2, names["species"])),
            "trimap": Labels(TargetInfo("segmentation", 3, names["trimap"])),
            "body": Box(TargetInfo("box", 4, CORNERS)),
            "head": Box(TargetInfo("box", 4, CORNERS)),
        },
        keys=chosen({**pools, "select": tuple(tables["val"]), "report": tuple(tables["test"])}, config),
        read=read,
        files=[folder / f"{name}.zip" for name in ARCHIVES],
        options={"names": {target: list(found) for target, found in names.items()}},
        labels=labels,
    )
    return open_preset(preset, config, progress)


def read_table(tree: ZipTree) -> dict[str, Row]:
    """Rows of `labels.csv` by image name; every image of the archive has one."""
    reader = csv.DictReader(io.StringIO(tree.text("labels.csv")))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"the columns {', '.join(COLUMNS)}",
            received=f"no {', '.join(missing)}",
            where=tree.where("labels.csv"),
            cure=FETCH_CURE,
        )
    rows = {row["name"]: row for row in reader}
    tree.require(f"{kind}/{name}.{end}" for name in rows for kind, end in (("rgb", "jpg"), ("trimap", "png")))
    if extra := sorted({name[4:-4] for name in tree.names if name.startswith("rgb/") and name[4:]} - set(rows)):
        raise DataError(
            "a row for every picture", received=f"none for {extra[0]}", where=tree.where("labels.csv"), cure=FETCH_CURE
        )
    return rows


def label_of(row: Row, name: str, tree: Tree) -> int:
    if row[name] not in {str(label) for label in range(COUNTS[name])}:
        raise DataError(
            f"a {name} from 0 to {COUNTS[name] - 1}",
            received=repr(row[name]),
            where=f"{tree.where('labels.csv')}: {row['name']}",
        )
    return int(row[name])


def box_of(row: Row, name: str, tree: Tree) -> np.ndarray | None:
    """The corners, or None where the image has none."""
    texts = [row[f"{name}_{corner}"] for corner in CORNERS]
    if not any(texts):
        return None
    try:
        x0, y0, x1, y1 = (float(text) for text in texts)
        right = 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
    except ValueError:
        right, x0 = False, math.nan
    if not right:
        raise DataError(
            "x0 < x1 and y0 < y1 between 0 and 1, or four empty cells",
            received=", ".join(texts),
            where=f"{tree.where('labels.csv')}: {row['name']}, {name}",
        )
    return np.array([x0, y0, x1, y1], np.float32)
