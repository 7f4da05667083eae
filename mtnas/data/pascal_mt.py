"""`pascal-mt`: PASCAL-Context with five tasks (Maninis, Radosavovic, Kokkinos, CVPR 2019), as in ASTMT, MTI-Net, ATRC,
InvPT.

Layout: `JPEGImages/ID.jpg`; `ImageSets/Context/train.txt` (4,998) and `val.txt` (5,105);
`pascal-context/trainval/ID.mat` (`LabelMap`, 459 classes); `semseg/VOC12/ID.png`, else `semseg/pascal-context/ID.png`
(0..20, 255 = ignore); `human_parts/ID.mat`; `normals_distill/ID.png` (2x/255 - 1); `sal_distill/ID.png` (yes above
127).

Saliency and normals are answers of other networks, not human labels: a score there is agreement with a teacher.
Normals count only where the Context class is one that NYU knows, too. Parts: head, torso, upper and lower arm, upper
and lower leg; an image without them is not scored. Edges: where the Laplacian of `LabelMap` is not 0, thinned. Splits:
report = val, which the field uses to choose and to report; select and calibrate come out of train. Research use.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.optional import require
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset, TargetInfo
from mtnas.data.config import DataConfig
from mtnas.data.fields import Labels, Mask, Vectors
from mtnas.data.normals import check_centred, decoded, unit_normals
from mtnas.data.pascal_facts import NORMAL_CLASSES, PART_NAMES, PART_OF, PERSON, VOC_NAMES
from mtnas.data.preset import Preset, open_preset
from mtnas.data.splits import carve, chosen, chunks_of
from mtnas.data.thinning import laplacian_edges, thin
from mtnas.data.trees import FETCH_CURE, Tree, expect_count, find_folder, image, within
from mtnas.tasks.spec import IGNORE

VERSION = "1"
COUNTS = {"train": 4998, "val": 5105}
MARKS = (
    "JPEGImages", "ImageSets/Context/train.txt", "ImageSets/Context/val.txt", "pascal-context/trainval", "semseg",
    "human_parts", "normals_distill", "sal_distill",
)  # fmt: skip
FILES = {
    "image": "JPEGImages/{}.jpg",
    "context": "pascal-context/trainval/{}.mat",
    "human_parts": "human_parts/{}.mat",
    "normals": "normals_distill/{}.png",
    "saliency": "sal_distill/{}.png",
}
SEMSEG = ("semseg/VOC12/{}.png", "semseg/pascal-context/{}.png")


def open_pascal_mt(config: DataConfig, progress: Progress) -> Dataset:
    """Find and check the folders."""
    folder = find_folder(config.root, "pascal-mt", ("pascal-mt", "PASCAL_MT", "PASCALContext"), MARKS)
    tree = Tree(folder)
    keys = {part: read_list(tree, part) for part in COUNTS}
    pools = carve(chunks_of(keys["train"], 1), config, ["select", "calibrate"])

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        return read_one(tree, str(key), wanted)

    def labels(split: str, key: Hashable, target: str) -> bool:
        parts = frozenset({"human_parts"})
        return target not in parts or read_one(tree, str(key), parts)[target] is not None

    picked = chosen({**pools, "report": keys["val"]}, config)
    check_centred(read, "train", picked["train"], tree.where("normals_distill"))
    preset = Preset(
        name="pascal-mt",
        version=VERSION,
        fields={
            "segmentation": Labels(TargetInfo("segmentation", len(VOC_NAMES), VOC_NAMES)),
            "human_parts": Labels(TargetInfo("parts", len(PART_NAMES), PART_NAMES)),
            "saliency": Mask(TargetInfo("saliency", 1)),
            "normals": Vectors(TargetInfo("normals", 3)),
            "edges": Mask(TargetInfo("edges", 1), thin_lines=True),
        },
        keys=picked,
        read=read,
        files=[path for group in picked.values() for key in group for path in files_of(tree, key)],
        options={},
        labels=labels,
    )
    return open_preset(preset, config, progress)


def read_list(tree: Tree, part: str) -> tuple[str, ...]:
    """The names of a part; every file of each is there."""
    name = f"ImageSets/Context/{part}.txt"
    names = tuple(tree.lines(name))
    expect_count(len(set(names)), COUNTS[part], "different names", tree.where(name))
    tree.require(pattern.format(name) for name in names for pattern in FILES.values())
    tree.require(semseg_of(tree, name) for name in names)
    return names


def semseg_of(tree: Tree, name: str) -> str:
    return next((file for file in (p.format(name) for p in SEMSEG) if tree.has(file)), SEMSEG[0].format(name))


def files_of(tree: Tree, name: str) -> list[Path]:
    return [tree.root / file for file in (*(p.format(name) for p in FILES.values()), semseg_of(tree, name))]


def read_one(tree: Tree, name: str, wanted: frozenset[str]) -> dict[str, Any]:
    """One image with its labels; all of one size."""
    files = {kind: pattern.format(name) for kind, pattern in FILES.items()}
    picture = image(tree, files["image"], 3)
    size = (picture.shape[0], picture.shape[1])
    example: dict[str, Any] = {"image": picture}
    if "segmentation" in wanted:
        file = semseg_of(tree, name)
        allowed = [*range(len(VOC_NAMES)), IGNORE]
        example["segmentation"] = within(
            image(tree, file, 1, size=size), allowed, tree.where(file), "classes 0 to 20, or 255 for ignored"
        )
    if "human_parts" in wanted:
        example["human_parts"] = human_parts(tree, files["human_parts"], size)
    if "saliency" in wanted:
        example["saliency"] = (image(tree, files["saliency"], 1, size=size) > 127).astype(np.uint8)
    if "normals" in wanted or "edges" in wanted:
        context = label_map(tree, files["context"], size)
        example["edges"] = thin(laplacian_edges(context)).astype(np.uint8)
        if "normals" in wanted:
            coded = decoded(image(tree, files["normals"], 3, size=size))
            known = np.isin(context, NORMAL_CLASSES)[..., None]
            example["normals"] = unit_normals(np.where(known, coded, 0), tree.where(files["normals"]))
    return example


def matlab(tree: Tree, name: str, key: str) -> Any:
    """One variable of a `.mat` file."""
    scipy_io = require("scipy.io.matlab", why="MATLAB files")
    try:
        return scipy_io.loadmat(io.BytesIO(tree.read(name)))[key]
    except (
        scipy_io.MatReadError, zlib.error, KeyError, ValueError, TypeError, OSError, NotImplementedError,
    ) as error:  # fmt: skip
        raise DataError(
            f"a MATLAB file with {key!r}", received=str(error), where=tree.where(name), cure=FETCH_CURE
        ) from error


def label_map(tree: Tree, name: str, size: tuple[int, int]) -> np.ndarray:
    labels = np.asarray(matlab(tree, name, "LabelMap"))
    if labels.shape != size or labels.dtype.kind not in "iu" or labels.max() > 459:
        raise DataError(
            f"LabelMap of shape {size} with classes up to 459",
            received=f"{labels.dtype.name} of shape {labels.shape}, up to {labels.max(initial=0)}",
            where=tree.where(name),
            cure=FETCH_CURE,
        )
    return labels


def human_parts(tree: Tree, name: str, size: tuple[int, int]) -> np.ndarray | None:
    """Classes of `PART_NAMES`, uint8 (H,W); None when no person of the image has parts.

    The file holds `anno` with a list of objects: name, class number, mask, parts; a part has a name and a mask.
    """
    labels = np.zeros(size, np.uint8)
    found = False
    anno = matlab(tree, name, "anno")
    try:
        for person in anno[0][0][1][0]:
            if int(person[1][0][0]) != PERSON or not len(person[3]):
                continue
            found = True
            for part in person[3][0]:
                labels[np.asarray(part[1], bool)] = PART_OF[str(part[0][0])]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"objects with parts of persons, masks of shape {size}",
            received=f"{type(error).__name__}: {error}",
            where=tree.where(name),
            cure=FETCH_CURE,
        ) from error
    return labels if found else None
