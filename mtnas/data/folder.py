"""`folder`: a user's own images, with one folder or one column per task; any image may lack any label.

Layout:
- `images/ID.EXT`: pictures of any size; IDs may hold folders, so sets with different labels can lie side by side.
- `folder.yaml`: `targets:`, for each a `type` and what it needs (table below); optional `mean`, `std`, `flip: false`.
- `TARGET/ID.png` or `.npy`: one folder per dense target.
- `labels.csv`: a column `image` with IDs and one column per image-level target; an empty cell is no label.
- `splits/train.txt`, `select.txt`, `report.txt`, optional `calibrate.txt`: IDs. Without the folder the images are
  dealt out by a hash of their names: 70 % train, 10 % each of the others; give splits of your own when neighbours look
  alike.

| type | file or cell | needs |
| --- | --- | --- |
| segmentation, parts | uint8 PNG, 255 = ignore | `classes` |
| depth | 16-bit PNG x `unit_m`, or `.npy` metres; 0 = invalid | `unit_m` for PNG |
| disparity | 16-bit PNG x `unit`, 0 = invalid, or `.npy`, below 0 = invalid; pixels of the file | `unit` for PNG |
| normals | RGB PNG 127 n + 128, or `.npy` vectors; x to the right | |
| edges, saliency | uint8 PNG, 0 = no, 1 or 255 = yes, 128 = not scored | |
| classification | name or number of the class | `classes` |
| presence | names with `;` between them, `-` for none | `classes` |
| attribute | 0 or 1 | |
| box | columns TARGET_x0, _y0, _x1, _y1 in shares of the sides | |
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.data.augment import Recipe
from mtnas.data.base import Dataset
from mtnas.data.config import SPLITS, DataConfig
from mtnas.data.folder_targets import DENSE, ENDINGS, Target, make_target
from mtnas.data.normals import check_centred
from mtnas.data.preset import IMAGENET_MEAN, IMAGENET_STD, Preset, open_preset
from mtnas.data.splits import carve, chosen, chunks_of
from mtnas.data.trees import Tree, find_folder, image

VERSION = "1"
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
#: how far the aspect ratios of a picture and its labels may differ
ASPECT = 0.02
KEYS = frozenset({"targets", "mean", "std", "flip"})
LAYOUT_CURE = "see the layout in the documentation of the data set `folder`"

Row = dict[str, str]


def open_folder(config: DataConfig, progress: Progress) -> Dataset:
    """Read the description, find pictures and labels, deal out the splits."""
    folder = find_folder(config.root, "folder", ("folder",), ["folder.yaml", "images"])
    tree = Tree(folder)
    words = read_words(tree)
    targets = {name: make_target(name, raw, tree.where("folder.yaml")) for name, raw in words["targets"].items()}
    pictures = find_pictures(folder)
    rows = read_rows(tree, targets, pictures)
    check_labels(tree, targets, pictures, rows)
    picked = chosen(deal(tree, tuple(pictures), config), config)
    check_splits(picked, [targets[name] for name in config.targets or targets if name in targets], tree, rows)

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        name = str(key)
        example: dict[str, Any] = {"image": image(tree, pictures[name], 3, convert=True)}
        for target in (targets[target] for target in wanted):
            example[target.name] = target.read(tree, name, rows.get(name, {}))
            if target.kind in DENSE and example[target.name] is not None:
                check_aspect(example["image"], example[target.name], f"{tree.where(target.name)}: {name}")
        return example

    for name in (name for name, target in targets.items() if target.kind == "normals"):
        labelled = [key for group in picked.values() for key in group if targets[name].file(tree, key)]
        check_centred(read, "train", labelled, tree.where(name), name)
    files = [folder / pictures[key] for group in picked.values() for key in group]
    files += [
        folder / file
        for group in picked.values()
        for key in group
        for target in targets.values()
        if (file := target.file(tree, key))
    ]
    extra = [name for name in ("folder.yaml", "labels.csv") if tree.has(name)]
    preset = Preset(
        name="folder",
        version=VERSION,
        fields={name: target.field for name, target in targets.items()},
        keys=picked,
        read=read,
        files=[*files, *(folder / name for name in extra)],
        options={},
        recipe=Recipe(flip=bool(words.get("flip", True))),
        mean=three(words, "mean", IMAGENET_MEAN, tree),
        std=three(words, "std", IMAGENET_STD, tree),
        research_only=False,
        labels=lambda split, key, target: targets[target].labels(tree, str(key), rows.get(str(key), {})),
    )
    return open_preset(preset, config, progress)


def read_words(tree: Tree) -> dict[str, Any]:
    """`folder.yaml`, checked down to the targets."""
    where = tree.where("folder.yaml")
    try:
        words = yaml.safe_load(tree.text("folder.yaml"))
    except yaml.YAMLError as error:
        raise DataError("valid YAML", received=str(error), where=where) from error
    targets = words.get("targets") if isinstance(words, dict) else None
    if not isinstance(targets, dict) or not targets or not all(isinstance(raw, dict) for raw in targets.values()):
        raise DataError("targets: NAME: {type: ...}", received=str(words)[:80], where=where, cure=LAYOUT_CURE)
    if unknown := set(words) - KEYS:
        raise DataError(f"the keys {', '.join(sorted(KEYS))}", received=sorted(unknown)[0], where=where)
    return dict(words)


def three(
    words: dict[str, Any], key: str, default: tuple[float, float, float], tree: Tree
) -> tuple[float, float, float]:
    """Three numbers of the description."""
    values = words.get(key, default)
    right = isinstance(values, list | tuple) and len(values) == 3 and all(isinstance(v, int | float) for v in values)
    if not right or (key == "std" and min(values) <= 0):
        raise DataError(f"three numbers for {key}", received=str(values), where=tree.where("folder.yaml"))
    return float(values[0]), float(values[1]), float(values[2])


def find_pictures(folder: Path) -> dict[str, str]:
    """File of each ID, in order of the IDs."""
    top = folder / "images"
    found: dict[str, str] = {}
    for path in sorted(top.rglob("*")):
        if path.suffix.lower() not in PICTURES or not path.is_file():
            continue
        name = path.relative_to(top).with_suffix("").as_posix()
        if name in found:
            raise DataError(
                "one picture for each name",
                received=f"{found[name]} and {path.name}",
                where=str(top),
                cure="rename one",
            )
        found[name] = path.relative_to(folder).as_posix()
    if not found:
        raise DataError(f"pictures ({', '.join(sorted(PICTURES))})", received="none", where=str(top), cure=LAYOUT_CURE)
    return found


def read_rows(tree: Tree, targets: dict[str, Target], pictures: dict[str, str]) -> dict[str, Row]:
    """Rows of `labels.csv` by ID; none when no target needs it."""
    needed = ["image", *(column for target in targets.values() for column in target.columns)]
    if len(needed) == 1:
        return {}
    where = tree.where("labels.csv")
    reader = csv.DictReader(io.StringIO(tree.text("labels.csv")))
    if missing := [column for column in needed if column not in (reader.fieldnames or ())]:
        raise DataError(
            f"the columns {', '.join(needed)}",
            received=f"no {', '.join(missing)}, but {', '.join(map(repr, reader.fieldnames or ()))}",
            where=where,
            cure=f"columns are parted by commas; {LAYOUT_CURE}",
        )
    rows: dict[str, Row] = {}
    for number, row in enumerate(reader, start=2):
        # users write names with or without their ending
        name = row["image"] if row["image"] in pictures else row["image"].rpartition(".")[0]
        if name not in pictures or name in rows:
            raise DataError("a picture of images/, once", received=repr(row["image"]), where=f"{where}, line {number}")
        rows[name] = row
    return rows


def check_labels(tree: Tree, targets: dict[str, Target], pictures: dict[str, str], rows: dict[str, Row]) -> None:
    """Every target labels at least one image; every label file belongs to a picture; every cell can be read."""
    for target in targets.values():
        if target.kind in DENSE:
            count = check_files(tree.root / target.name, set(pictures))
        else:
            count = sum(target.read(tree, name, row) is not None for name, row in rows.items())
        if not count:
            raise DataError(
                f"labels of the target {target.name!r}",
                received="none",
                where=str(tree.root / (target.name if target.kind in DENSE else "labels.csv")),
                cure=LAYOUT_CURE,
            )


def check_files(top: Path, pictures: set[str]) -> int:
    """Label files of one target; one that would be passed over in silence is an error."""
    labelled: dict[str, Path] = {}
    for path in sorted(path for path in top.rglob("*") if path.is_file() and not path.name.startswith(".")):
        name, where = path.relative_to(top).with_suffix("").as_posix(), str(path)
        if path.suffix in ENDINGS:
            if name not in pictures:
                raise DataError("a picture for every label", received=f"none for {name}", where=where)
            if name in labelled:
                raise DataError("one label for each picture", received=f"also {labelled[name].name}", where=where)
            labelled[name] = path
        elif name in pictures:
            cure = (
                "rename it" if path.suffix.lower() in ENDINGS else "store it again from its source: JPEG changes values"
            )
            raise DataError("labels as .png or .npy", received=path.suffix or "no ending", where=where, cure=cure)
    return len(labelled)


def check_splits(
    picked: Mapping[str, Sequence[str]], targets: Iterable[Target], tree: Tree, rows: dict[str, Row]
) -> None:
    """Every split in which a target is learned or scored has labels of it: better said now than after the training."""
    for target in targets:
        for split in ("train", "select", "report"):
            names = picked[split]
            if not any(target.labels(tree, name, rows.get(name, {})) for name in names):
                raise DataError(
                    f"labels of the target {target.name!r} in every split",
                    received=f"none among the {len(names)} images of {split}",
                    where=str(tree.root),
                    cure=f"label some of them, give splits/*.txt of your own, or ask for more images (data.{split})",
                )


def check_aspect(picture: np.ndarray, labels: np.ndarray, where: str) -> None:
    """Labels may be larger or smaller than their picture, but must show the same piece of the world."""
    (height, width), (rows, columns) = picture.shape[:2], labels.shape[:2]
    if abs(width * rows - height * columns) > ASPECT * width * rows:
        raise DataError(
            f"labels with the aspect ratio of their picture, {width}x{height}",
            received=f"{columns}x{rows}",
            where=where,
            cure="crop both alike; sizes may differ, shapes may not",
        )


def deal(tree: Tree, names: tuple[str, ...], config: DataConfig) -> dict[str, tuple[str, ...]]:
    """The four splits: as the files say, or by a hash of the names."""
    if not (tree.root / "splits").is_dir():
        ordered = tuple(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest()))
        return carve(chunks_of(ordered, 1), config, ["report", "select", "calibrate"])
    pools = {
        split: tuple(dict.fromkeys(tree.lines(f"splits/{split}.txt")))
        for split in SPLITS
        if split != "calibrate" or tree.has("splits/calibrate.txt")
    }
    seen: dict[str, str] = {}
    for split, pool in pools.items():
        for name in pool:
            if name not in set(names) or name in seen:
                raise DataError(
                    "pictures of images/, each in one split",
                    received=f"{name!r}" + (f", already in {seen[name]}" if name in seen else ""),
                    where=tree.where(f"splits/{split}.txt"),
                )
            seen[name] = split
        if not pool:
            raise DataError("at least one picture", received="none", where=tree.where(f"splits/{split}.txt"))
    if "calibrate" not in pools:
        pools.update(carve(chunks_of(pools["train"], 1), config, ["calibrate"]))
    return pools
