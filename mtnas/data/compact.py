"""A split in memory: bytes per pixel as small as the labels allow, whole batches decoded at once.

| array | type | unit |
| --- | --- | --- |
| `image_NHW3` | uint8 | 0..255 |
| `segmentation_NHW` | uint8 | class, 255 = ignore |
| `parts_NHW` | uint8 | label map whose borders are the edges; may be the segmentation itself |
| `depth_NHW` | uint16 | millimetres, 0 = invalid |
| `normals_NHW3` | int8 | 1/127, 0 = invalid |
| `labels_N` | int64 by target name | class, -1 = not scored |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mtnas.base.errors import JobError
from mtnas.data.augment import View, jitter, random_view, take_bilinear, take_nearest
from mtnas.data.base import Batch, DataInfo, Split, TargetInfo
from mtnas.data.labels import edges_of, presence_of


@dataclass(frozen=True)
class Compact:
    """The arrays of a split, N images each."""

    image_NHW3: np.ndarray
    segmentation_NHW: np.ndarray
    parts_NHW: np.ndarray
    depth_NHW: np.ndarray
    normals_NHW3: np.ndarray
    labels_N: dict[str, np.ndarray] = field(default_factory=dict)

    @staticmethod
    def empty(count: int, height: int, width: int, labels: Sequence[str] = ()) -> Compact:
        """Arrays to be filled image by image."""
        shape = (count, height, width)
        return Compact(
            np.zeros((*shape, 3), np.uint8),
            np.zeros(shape, np.uint8),
            np.zeros(shape, np.uint8),
            np.zeros(shape, np.uint16),
            np.zeros((*shape, 3), np.int8),
            {name: np.zeros(count, np.int64) for name in labels},
        )


class CompactSplit(Split):
    """Decodes batches out of compact arrays.

    Args:
        presence_pixels: a class counts as present when it covers that many pixels.
    """

    def __init__(self, name: str, arrays: Compact, info: DataInfo, *, presence_pixels: int = 1) -> None:
        self.name = name
        self.arrays = arrays
        self._targets = info.targets
        self._presence_pixels = presence_pixels
        self._scale = torch.tensor(info.std).reciprocal()[:, None, None]
        self._shift = -torch.tensor(info.mean)[:, None, None] * self._scale

    def __len__(self) -> int:
        return len(self.arrays.image_NHW3)

    def batch(self, indices: Sequence[int] | np.ndarray, augment: np.random.Generator | None = None) -> Batch:
        index_B = np.asarray(indices, np.intp)
        if index_B.ndim != 1 or not len(index_B) or index_B.min() < 0 or index_B.max() >= len(self):
            raise JobError(f"indices from 0 to {len(self) - 1}", received=str(index_B), where=f"split {self.name}")
        height, width = self.arrays.image_NHW3.shape[1:3]
        view = None if augment is None else random_view(len(index_B), height, width, augment)
        image_BCHW = self._image(index_B, view)
        return image_BCHW, {name: self._target(name, info, index_B, view) for name, info in self._targets.items()}

    def _image(self, index_B: np.ndarray, view: View | None) -> Tensor:
        channels_first = np.ascontiguousarray(self.arrays.image_NHW3[index_B].transpose(0, 3, 1, 2))
        image_BCHW = torch.from_numpy(channels_first).float().div_(255)
        if view is not None:
            image_BCHW = jitter(take_bilinear(image_BCHW, view), view)
        return image_BCHW.mul_(self._scale).add_(self._shift)

    def _target(self, name: str, info: TargetInfo, index_B: np.ndarray, view: View | None) -> Tensor:
        def take(source: np.ndarray) -> np.ndarray:
            return source[index_B] if view is None else take_nearest(source[index_B], view)

        arrays = self.arrays
        if info.type == "segmentation":
            return torch.from_numpy(take(arrays.segmentation_NHW).astype(np.int64))
        if info.type == "depth":
            return _depth(take(arrays.depth_NHW), view)
        if info.type == "normals":
            return _normals(take(arrays.normals_NHW3), view)
        if info.type == "edges":
            return torch.from_numpy(edges_of(take(arrays.parts_NHW)).astype(np.float32)[:, None])
        if info.type == "presence":
            seen = presence_of(take(arrays.segmentation_NHW), info.channels, self._presence_pixels)
            return torch.from_numpy(seen)
        return torch.from_numpy(arrays.labels_N[name][index_B])


def _depth(millimetres_BHW: np.ndarray, view: View | None) -> Tensor:
    metres = millimetres_BHW.astype(np.float32) * np.float32(0.001)
    if view is not None:
        metres /= view.zoom_B.astype(np.float32)[:, None, None]
    return torch.from_numpy(metres[:, None])


def _normals(normals_BHW3: np.ndarray, view: View | None) -> Tensor:
    vectors = torch.from_numpy(np.ascontiguousarray(normals_BHW3.transpose(0, 3, 1, 2))).float()
    if view is not None:
        vectors[:, 0] *= torch.from_numpy(np.where(view.flip_B, -1.0, 1.0)).float()[:, None, None]
    # much faster than torch's normalize; the shortest stored vector is far longer than the bound
    return vectors * (vectors * vectors).sum(dim=1, keepdim=True).clamp_min(1).rsqrt()
