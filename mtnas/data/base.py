"""The contract of a data set. Shape letters: B = batch, H, W = pixels, K = classes.

Targets by type: segmentation (B,H,W) int64, 255 = ignore; depth (B,1,H,W) metres, 0 = invalid; normals (B,3,H,W) unit
vectors in camera axes x right, y down, z forward (field packagings: as they store them, x first), 0 = invalid;
disparity (B,1,H,W), -1 = invalid; parts like segmentation; edges and saliency (B,1,H,W) float 0/1, 255 = not scored;
classification (B,) int64, -1 = not labelled; presence (B,K) and attribute (B,1) float 0/1, 255 = not labelled; box
(B,4) x0, y0, x1, y1 in shares of the sides, NaN = not labelled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from mtnas.base.errors import DataError, JobError
from mtnas.base.tables import nearest


@dataclass(frozen=True)
class TargetInfo:
    """What one target is: the task type that fits it, the channels its output needs, the names of its classes."""

    type: str
    channels: int
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataInfo:
    """All that is known about a data set before an image is read.

    Args:
        mean, std: per colour channel, of images in 0..1; `batch` has applied them.
        targets: by name, in the set's order.
        sizes: images of each split.
        fingerprint: hash of all that decides the pixels and labels; stages that ran on another one are run again.
        research_only: the licence forbids to ship the data or pictures of it.
    """

    name: str
    version: str
    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    targets: dict[str, TargetInfo]
    sizes: dict[str, int]
    fingerprint: str
    research_only: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Batch = tuple[Tensor, dict[str, Tensor]]


class Split(ABC):
    """Images and targets that are used for one purpose."""

    name: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Sequence[int] | np.ndarray, augment: np.random.Generator | None = None) -> Batch:
        """Normalised float32 images (B,3,H,W) and their targets; augmented when a generator is given."""

    def batches(self, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """All images once, in order, the last batch as short as it is; only the first `limit` when given."""
        total = len(self) if limit is None else min(limit, len(self))
        for start in range(0, total, batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, total)))


class Dataset:
    """Four splits, each read or made when first asked for."""

    def __init__(
        self, info: DataInfo, makers: Mapping[str, Any], labels: Callable[[str, int, str], bool] | None = None
    ) -> None:
        """`makers` holds, for each split's name, a function without arguments that builds it; `labels(split, index,
        target)` tells without reading pixels whether an image is labelled, where some may not be."""
        self.info = info
        self._makers = dict(makers)
        self._labels = labels
        self._splits: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        if name not in self._makers:
            raise JobError("a known split", received=repr(name), where="split", cure=nearest(name, self._makers))
        if name not in self._splits:
            self._splits[name] = self._makers[name]()
        return self._splits[name]

    def unlabelled(self, split: str, targets: Sequence[str], limit: int | None = None) -> tuple[str, ...]:
        """Those of some targets that no image of a split, or of its first `limit`, is labelled for."""
        if self._labels is None:
            return ()
        count, labels = min(self.info.sizes[split], limit or self.info.sizes[split]), self._labels
        return tuple(name for name in targets if not any(labels(split, index, name) for index in range(count)))

    def require_labels(
        self, split: str, targets: Sequence[str], limit: int | None = None, *, where: str, cure: str
    ) -> None:
        """Raise now, as a `DataError`, what scoring would raise after hours: no image of a split, or of its first
        `limit`, is labelled for some target."""
        if missing := self.unlabelled(split, targets, limit):
            size = self.info.sizes[split]
            looked_at = f"its first {limit}" if limit and limit < size else f"all {size}"
            raise DataError(
                f"at least one image of {split} with a label for each task",
                received=f"none for {', '.join(missing)} among {looked_at} images",
                where=where,
                cure=cure,
            )


def chosen_targets(targets: Mapping[str, TargetInfo], names: Sequence[str]) -> dict[str, TargetInfo]:
    """The asked-for targets in the set's order; all when none is asked for."""
    for name in names:
        if name not in targets:
            raise JobError(
                "a target of this data set",
                received=repr(name),
                where="data.targets",
                cure=nearest(name, targets),
            )
    return {name: info for name, info in targets.items() if not names or name in names}
