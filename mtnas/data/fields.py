"""How each kind of target is stored in memory, resized, and turned into the tensor that a task reads.

A field knows one target. `blank` makes rows that mean "not labelled", so that a partly labelled image needs no case of
its own: what a file does not say stays blank. Fields with a `source` store nothing: they follow from another target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mtnas.data.augment import View, take_nearest, view_boxes
from mtnas.data.base import TargetInfo
from mtnas.data.labels import edges_of, presence_of
from mtnas.data.resample import Resampler
from mtnas.data.thinning import thin
from mtnas.tasks.spec import IGNORE, UNLABELLED


@dataclass(frozen=True)
class Field(ABC):
    """One target of a set."""

    info: TargetInfo
    #: type and "not labelled" value of the stored rows
    dtype: ClassVar[type] = np.uint8
    blank_value: ClassVar[float] = IGNORE
    #: axes of one stored row after (H, W); None for fields without pixels
    inner: ClassVar[tuple[int, ...]] = ()

    def blank(self, count: int, height: int, width: int) -> np.ndarray:
        """Rows for `count` images, none of them labelled."""
        return np.full((count, height, width, *self.inner), self.blank_value, self.dtype)

    @abstractmethod
    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        """One image's raw value as a stored row; dense values come at the size of the file."""

    @abstractmethod
    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        """The target of a batch, seen through the view."""


def seen(rows_BHWx: np.ndarray, view: View | None) -> np.ndarray:
    return rows_BHWx if view is None else take_nearest(rows_BHWx, view)


@dataclass(frozen=True)
class Labels(Field):
    """Classes per pixel, uint8, 255 = ignore."""

    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        return resampler.labels(value)

    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        return torch.from_numpy(seen(rows_B, view).astype(np.int64))


@dataclass(frozen=True)
class Mask(Field):
    """Yes or no per pixel: uint8 0, 1, 255 = not scored.

    Thin lines survive resizing: a pixel is yes when any pixel under it is, and the result is thinned again.
    """

    thin_lines: bool = False

    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        if not self.thin_lines or resampler.shape_in == resampler.shape_out:
            return resampler.labels(value)
        lines = thin(resampler.mean((value == 1).astype(np.float32)) > 1e-6)
        return np.where((resampler.labels(value) == IGNORE) & ~lines, IGNORE, lines).astype(np.uint8)

    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        return torch.from_numpy(seen(rows_B, view)[:, None].astype(np.float32))


@dataclass(frozen=True)
class Metres(Field):
    """Depth: float32, 0 = invalid. A zoom brings things closer."""

    dtype: ClassVar[type] = np.float32
    blank_value: ClassVar[float] = 0

    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        return resampler.depth(value).astype(np.float32)

    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        metres = seen(rows_B, view)
        if view is not None:
            metres = metres / view.zoom_B.astype(np.float32)[:, None, None]
        return torch.from_numpy(metres[:, None])


@dataclass(frozen=True)
class Disparity(Field):
    """Disparity: float32, -1 = invalid. With `pixels` it is in pixels and follows the width of the picture."""

    pixels: bool = False
    dtype: ClassVar[type] = np.float32
    blank_value: ClassVar[float] = -1

    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        # shifted by one so that a valid zero is not taken for a hole
        shifted = resampler.depth(np.where(value < 0, 0, value + 1))
        factor = resampler.shape_out[1] / resampler.shape_in[1] if self.pixels else 1.0
        return np.where(shifted > 0, (shifted - 1) * factor, -1).astype(np.float32)

    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        values = seen(rows_B, view).copy()
        if view is not None:
            zoom_B11 = view.zoom_B.astype(np.float32)[:, None, None]
            values = np.where(values < 0, values, values * zoom_B11)
        return torch.from_numpy(values[:, None])


@dataclass(frozen=True)
class Vectors(Field):
    """Normals: int8 of 1/127, 0 = invalid. A flip negates x."""

    dtype: ClassVar[type] = np.int8
    blank_value: ClassVar[float] = 0
    inner: ClassVar[tuple[int, ...]] = (3,)

    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        return np.rint(127 * resampler.normals(value)).astype(np.int8)

    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        vectors = torch.from_numpy(np.ascontiguousarray(seen(rows_B, view).transpose(0, 3, 1, 2))).float()
        if view is not None:
            vectors[:, 0] *= torch.from_numpy(np.where(view.flip_B, -1.0, 1.0)).float()[:, None, None]
        return vectors * (vectors * vectors).sum(dim=1, keepdim=True).clamp_min(1).rsqrt()


@dataclass(frozen=True)
class Class(Field):
    """One class per image: int64, -1 = not labelled."""

    dtype: ClassVar[type] = np.int64
    blank_value: ClassVar[float] = UNLABELLED

    def blank(self, count: int, height: int, width: int) -> np.ndarray:
        return np.full(count, self.blank_value, np.int64)

    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        return np.asarray(value, np.int64)

    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        return torch.from_numpy(rows_B)


@dataclass(frozen=True)
class Flags(Field):
    """Yes or no per image for each channel: uint8 0, 1, 255 = not labelled."""

    def blank(self, count: int, height: int, width: int) -> np.ndarray:
        return np.full((count, self.info.channels), IGNORE, np.uint8)

    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        return np.asarray(value, np.uint8).reshape(self.info.channels)

    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        return torch.from_numpy(rows_B.astype(np.float32))


@dataclass(frozen=True)
class Box(Field):
    """x0, y0, x1, y1 in shares of the sides, NaN = not labelled; moved with the view."""

    dtype: ClassVar[type] = np.float32

    def blank(self, count: int, height: int, width: int) -> np.ndarray:
        return np.full((count, 4), np.nan, np.float32)

    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        return np.asarray(value, np.float32)

    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        return torch.from_numpy((rows_B if view is None else view_boxes(rows_B, view)).astype(np.float32))


@dataclass(frozen=True)
class Borders(Field):
    """Edges between the labels of another target; an image without labels is not scored."""

    source: str = "segmentation"

    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        raise NotImplementedError

    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        edges = edges_of(seen(rows_B, view)).astype(np.float32)
        edges[unlabelled(rows_B)] = IGNORE
        return torch.from_numpy(edges[:, None])


@dataclass(frozen=True)
class Present(Field):
    """Which classes of another target cover at least `least` of the picture."""

    source: str = "segmentation"
    least: float = 0.001

    def pack(self, value: np.ndarray, resampler: Resampler) -> np.ndarray:
        raise NotImplementedError

    def tensor(self, rows_B: np.ndarray, view: View | None) -> Tensor:
        pixels = max(1, round(self.least * rows_B.shape[1] * rows_B.shape[2]))
        flags = presence_of(seen(rows_B, view), self.info.channels, pixels)
        flags[unlabelled(rows_B)] = IGNORE
        return torch.from_numpy(flags)


def unlabelled(rows_BHW: np.ndarray) -> np.ndarray:
    """Images all of whose pixels are ignored."""
    return (rows_BHW == IGNORE).all(axis=(1, 2))


def source_of(name: str, field: Field) -> str:
    """The target whose rows the field reads: itself, unless it follows from another."""
    return str(getattr(field, "source", name))
