"""`camvid`: street scenes from a car in Cambridge (Brostow, Fauqueur, Cipolla, 2009), 11 classes of SegNet, 192x144.

Layout: `train.zip`, `val.zip`, `test.zip` with `rgb/NAME.jpg` and `seg/NAME.png` (uint8, 0..10, 255 = ignore), and
`classes.json` with `seg_names`. Splits: train and calibrate = train.zip, cut in stretches of neighbouring frames;
select = val.zip; report = test.zip. As everywhere with this set, val holds a sequence that train holds too. Edges are
borders between classes, presence says which classes cover a thousandth of the picture. Personal and research use only.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset, TargetInfo
from mtnas.data.config import DataConfig
from mtnas.data.fields import Borders, Labels, Present
from mtnas.data.preset import Preset, open_preset
from mtnas.data.splits import carve, chosen, chunks_of
from mtnas.data.trees import Tree, ZipTree, find_folder, image, within
from mtnas.tasks.spec import IGNORE

VERSION = "1"
SIZE = (144, 192)
CLASSES = 11
ARCHIVES = ("train", "val", "test")
#: frames that stay together, so that calibrate and train do not interleave
STRETCH = 12
ARCHIVE_OF = {"train": "train", "calibrate": "train", "select": "val", "report": "test"}


def open_camvid(config: DataConfig, progress: Progress) -> Dataset:
    """Find and check the archives."""
    folder = find_folder(config.root, "camvid", ("camvid",), ["classes.json", *(f"{name}.zip" for name in ARCHIVES)])
    names = class_names(folder)
    trees = {name: ZipTree(folder / f"{name}.zip") for name in ARCHIVES}
    keys = {name: frames(tree) for name, tree in trees.items()}
    pools = carve(chunks_of(keys["train"], STRETCH), config, ["calibrate"])

    def read(split: str, key: Hashable, wanted: frozenset[str]) -> dict[str, Any]:
        tree = trees[ARCHIVE_OF[split]]
        labels = image(tree, f"seg/{key}.png", 1, size=SIZE)
        within(labels, [*range(CLASSES), IGNORE], tree.where(f"seg/{key}.png"), "classes 0 to 10, or 255 for ignored")
        return {"image": image(tree, f"rgb/{key}.jpg", 3, size=SIZE), "segmentation": labels}

    preset = Preset(
        name="camvid",
        version=VERSION,
        fields={
            "segmentation": Labels(TargetInfo("segmentation", CLASSES, names)),
            "edges": Borders(TargetInfo("edges", 1)),
            "presence": Present(TargetInfo("presence", CLASSES, names)),
        },
        keys=chosen({**pools, "select": keys["val"], "report": keys["test"]}, config),
        read=read,
        files=[folder / f"{name}.zip" for name in ARCHIVES],
        options={"names": names},
    )
    return open_preset(preset, config, progress)


def class_names(folder: Path) -> tuple[str, ...]:
    names = Tree(folder).object("classes.json", ["seg_names"])["seg_names"]
    if len(names) != CLASSES:
        raise DataError(f"{CLASSES} class names", received=str(len(names)), where=str(folder / "classes.json"))
    return tuple(names)


def frames(tree: ZipTree) -> tuple[str, ...]:
    """Names of the frames in order of sequence and time; each has a picture and labels."""
    names = sorted(name[4:-4] for name in tree.names if name.startswith("rgb/") and name.endswith(".jpg"))
    if not names:
        raise DataError("pictures rgb/NAME.jpg", received=f"{len(tree.names)} other entries", where=str(tree.root))
    tree.require(f"seg/{name}.png" for name in names)
    return tuple(names)
