"""`scenes`: generated rooms with exact labels; the set that the tool carries with it.

Box rooms with 3 to 8 solids, pictures on the walls, a random camera and one lamp. Segmentation (8 classes), depth in
metres with 5 % of holes, unit normals, edges (borders between parts: solids, faces of the room, pictures), presence of
classes, and the look of the walls as an image-level class. Image number i of a split is the same whatever the sizes of
the splits are. A number on this set says nothing about a real one.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mtnas.base.files import content_hash
from mtnas.base.progress import Progress
from mtnas.base.seeds import generator
from mtnas.data.base import DataInfo, Dataset, TargetInfo, chosen_targets
from mtnas.data.compact import Compact, CompactSplit
from mtnas.data.config import SPLITS, DataConfig
from mtnas.data.paint import render
from mtnas.data.raycast import camera_rays, cast
from mtnas.data.rooms import CLASS_NAMES, ROOM_STYLES, random_room

#: raise it whenever any pixel or label of any image changes
VERSION = "1"
DEFAULT_SIZES = {"train": 1600, "calibrate": 128, "select": 256, "report": 512}
#: room for ten million images in each split
SPLIT_STRIDE = 10_000_000
HOLES = 0.05
MEAN, STD = (0.55, 0.53, 0.51), (0.24, 0.24, 0.26)
#: a class is present when it covers this share of the pixels: a single pixel could not be learned
PRESENCE_SHARE = 0.001

TARGETS = {
    "segmentation": TargetInfo("segmentation", len(CLASS_NAMES), CLASS_NAMES),
    "depth": TargetInfo("depth", 1),
    "normals": TargetInfo("normals", 3),
    "edges": TargetInfo("edges", 1),
    "presence": TargetInfo("presence", len(CLASS_NAMES), CLASS_NAMES),
    "room": TargetInfo("classification", len(ROOM_STYLES), ROOM_STYLES),
}


def open_scenes(config: DataConfig, progress: Progress) -> Dataset:
    """Describe the set; a split is generated when it is first asked for."""
    sizes = {split: getattr(config, split) or DEFAULT_SIZES[split] for split in SPLITS}
    recipe = {"name": "scenes", "version": VERSION, "height": config.height, "width": config.width, "sizes": sizes}
    info = DataInfo(
        name="scenes",
        version=VERSION,
        height=config.height,
        width=config.width,
        mean=MEAN,
        std=STD,
        targets=chosen_targets(TARGETS, config.targets),
        sizes=sizes,
        fingerprint=content_hash(recipe),
        research_only=False,
    )
    return Dataset(info, {split: partial(_make_split, info, split, progress) for split in SPLITS})


def _make_split(info: DataInfo, split: str, progress: Progress) -> CompactSplit:
    count = info.sizes[split]
    arrays = Compact.empty(count, info.height, info.width, labels=("room",))
    camera_3P = camera_rays(info.height, info.width)
    first = SPLITS.index(split) * SPLIT_STRIDE
    with progress.task(f"generate scenes, {split}", count) as bar:
        for number in range(count):
            make_scene(arrays, number, first + number, camera_3P)
            bar.advance()
    return CompactSplit(split, arrays, info, presence_pixels=max(1, round(PRESENCE_SHARE * info.height * info.width)))


def make_scene(arrays: Compact, row: int, index: int, camera_3P: np.ndarray) -> None:
    """Write scene number `index` into row `row` of the arrays."""
    rng = generator(0, "scenes", VERSION, index)
    room = random_room(rng)
    hits = cast(room, camera_3P)
    shape = arrays.depth_NHW.shape[1:]
    hole_P = holes(shape, rng).ravel()
    normal_3P = room.turn_33.T @ hits.normal_3P
    arrays.image_NHW3[row] = render(room, hits, (shape[0], shape[1]), rng)
    arrays.segmentation_NHW[row] = hits.class_P.reshape(shape)
    arrays.parts_NHW[row] = hits.part_P.reshape(shape)
    arrays.depth_NHW[row] = np.where(hole_P, 0, np.rint(hits.depth_P * 1000)).reshape(shape)
    arrays.normals_NHW3[row] = np.where(hole_P, 0, np.rint(normal_3P * 127)).T.reshape(*shape, 3)
    arrays.labels_N["room"][row] = room.style


def holes(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Blotches that cover `HOLES` of the pixels, where a depth camera would have seen nothing."""
    height, width = shape
    coarse = rng.random((height // 8 + 2, width // 8 + 2), dtype=np.float32)
    rows, columns = np.arange(height) / 8, np.arange(width) / 8
    top, left = rows.astype(int), columns.astype(int)
    down, across = (rows - top)[:, None].astype(np.float32), (columns - left).astype(np.float32)
    upper, lower = coarse[top], coarse[top + 1]
    lines = upper + down * (lower - upper)
    field = lines[:, left] + across * (lines[:, left + 1] - lines[:, left])
    field += np.float32(0.15) * rng.random(shape, dtype=np.float32)
    limit = np.partition(field.ravel(), -round(HOLES * field.size))[-round(HOLES * field.size)]
    return field >= limit
