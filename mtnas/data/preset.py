"""What all data sets on disk share: a description, a reader of single images, four splits in memory.

A file of a preset finds and checks its tree, says which keys belong to which split, and reads one key; the rest is
here. Images and labels are brought to the job's size when they are read (the aspect ratio is not kept). A split that
would take more than `HELD_BYTES` of memory is not kept but read batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtnas.base.errors import JobError
from mtnas.base.files import content_hash
from mtnas.base.progress import Progress
from mtnas.data.augment import ROOMS, Recipe, View, jitter, random_view, take_bilinear
from mtnas.data.base import Batch, DataInfo, Dataset, Split, chosen_targets
from mtnas.data.config import SPLITS, DataConfig
from mtnas.data.fields import Field, source_of
from mtnas.data.resample import Resampler
from mtnas.data.trees import fingerprint

HELD_BYTES = 4 * 2**30
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: "image" -> uint8 (H,W,3), target -> raw value of its field, at the size of the file; a target that is absent or None
#: is not labelled
Example = Mapping[str, Any]
Reader = Callable[[str, Hashable, frozenset[str]], Example]
#: (split, key, target) to whether that image is labelled for it
Labels = Callable[[str, Hashable, str], bool]


@dataclass(frozen=True)
class Preset:
    """A data set on disk.

    Args:
        fields: by target name, in the set's order.
        keys: what `read` needs to know of each image, for each split.
        read: (split, key, names of the wanted fields) to one example; names that are not wanted need not be decoded.
        files: all files that decide pixels or labels, for the fingerprint.
        options: further settings that decide them.
        labels: tells, without decoding the picture where that can be, which images are labelled; None = all are.
    """

    name: str
    version: str
    fields: Mapping[str, Field]
    keys: Mapping[str, Sequence[Hashable]]
    read: Reader
    files: Iterable[Path]
    options: Mapping[str, Any]
    recipe: Recipe = ROOMS
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    research_only: bool = True
    labels: Labels | None = None


def open_preset(preset: Preset, config: DataConfig, progress: Progress) -> Dataset:
    """The data set; images are read when a split is first asked for."""
    recipe = {
        "name": preset.name,
        "version": preset.version,
        "files": fingerprint(preset.files),
        "size": [config.height, config.width],
        "options": dict(preset.options),
        "keys": {split: content_hash([str(key) for key in preset.keys[split]]) for split in SPLITS},
    }
    info = DataInfo(
        name=preset.name,
        version=preset.version,
        height=config.height,
        width=config.width,
        mean=preset.mean,
        std=preset.std,
        targets=chosen_targets({name: field.info for name, field in preset.fields.items()}, config.targets),
        sizes={split: len(preset.keys[split]) for split in SPLITS},
        fingerprint=content_hash(recipe),
        research_only=preset.research_only,
    )
    makers = {split: partial(PresetSplit, split, preset, info, progress) for split in SPLITS}
    return Dataset(info, makers, partial(_is_labelled, preset) if preset.labels else None)


def _is_labelled(preset: Preset, split: str, index: int, target: str) -> bool:
    assert preset.labels is not None
    return preset.labels(split, preset.keys[split][index], target)


class PresetSplit(Split):
    """A split of a preset, in memory where it fits."""

    def __init__(self, name: str, preset: Preset, info: DataInfo, progress: Progress) -> None:
        self.name = name
        self._preset = preset
        self._info = info
        self._keys = preset.keys[name]
        self._fields = {target: preset.fields[target] for target in info.targets}
        self._stored = {
            source: preset.fields[source] for source in {source_of(*item): None for item in self._fields.items()}
        }
        self._resamplers: dict[tuple[int, int], Resampler] = {}
        self._scale = torch.tensor(info.std).reciprocal()[:, None, None]
        self._shift = -torch.tensor(info.mean)[:, None, None] * self._scale
        self.rows: dict[str, np.ndarray] | None = None
        one_image = sum(rows.nbytes for rows in self._blank(1).values())
        if one_image * len(self) <= HELD_BYTES:
            with progress.task(f"read {info.name}, {name}", len(self)) as bar:
                self.rows = self._read(np.arange(len(self)), bar.advance)

    def __len__(self) -> int:
        return len(self._keys)

    def batch(self, indices: Sequence[int] | np.ndarray, augment: np.random.Generator | None = None) -> Batch:
        index_B = np.asarray(indices, np.intp)
        if index_B.ndim != 1 or not len(index_B) or index_B.min() < 0 or index_B.max() >= len(self):
            raise JobError(f"indices from 0 to {len(self) - 1}", received=str(index_B), where=f"split {self.name}")
        rows = self._read(index_B) if self.rows is None else {name: all_[index_B] for name, all_ in self.rows.items()}
        view = None
        if augment is not None:
            view = random_view(len(index_B), self._info.height, self._info.width, augment, self._preset.recipe)
        targets = {name: field.tensor(rows[source_of(name, field)], view) for name, field in self._fields.items()}
        return self._image(rows["image"], view), targets

    def _image(self, image_BHW3: np.ndarray, view: View | None) -> Tensor:
        channels_first = np.ascontiguousarray(image_BHW3.transpose(0, 3, 1, 2))
        image_BCHW = torch.from_numpy(channels_first).float().div_(255)
        if view is not None:
            image_BCHW = jitter(take_bilinear(image_BCHW, view), view)
        return image_BCHW.mul_(self._scale).add_(self._shift)

    def _blank(self, count: int) -> dict[str, np.ndarray]:
        height, width = self._info.height, self._info.width
        rows = {name: field.blank(count, height, width) for name, field in self._stored.items()}
        return {"image": np.zeros((count, height, width, 3), np.uint8), **rows}

    def _read(self, index_N: np.ndarray, advance: Callable[[], None] = lambda: None) -> dict[str, np.ndarray]:
        """Decoded rows of some images, at the job's size."""
        rows = self._blank(len(index_N))
        wanted = frozenset(self._stored)
        for row, index in enumerate(index_N):
            example = self._preset.read(self.name, self._keys[index], wanted)
            picture = example["image"]
            rows["image"][row] = np.rint(self._resampler(picture).mean(picture))
            for name, field in self._stored.items():
                if (value := example.get(name)) is not None:
                    rows[name][row] = field.pack(value, self._resampler(value))
            advance()
        return rows

    def _resampler(self, value: Any) -> Resampler:
        """From the size of a value to the job's; values without pixels get any."""
        size = np.shape(value)[:2] if np.ndim(value) >= 2 else (1, 1)
        if size not in self._resamplers:
            self._resamplers[size] = Resampler(size, (self._info.height, self._info.width))
        return self._resamplers[size]
