"""Numbers that depend on the widths: every axis length is a constant plus so many positions per kept unit of a group.

All axis lengths of the graph are rows of one matrix, so a selection's lengths are one product of a matrix and a
vector; costs are products of a few rows. N = terms, R = rows, G = groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mtnas.base.errors import ModelError
from mtnas.base.groups import Selection
from mtnas.graph.labels import BATCH, FIXED, Labelled, Units

ONE = 0


@dataclass
class RowTable:
    """Collects distinct axis lengths while a plan is made; row 0 is the number one."""

    units: Units
    index: dict[bytes, int] = field(default_factory=dict)
    rows: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        sizes = [group.size for group in self.units.groups]
        self.starts = np.array([self.units.offsets[group.name] for group in self.units.groups], dtype=np.int64)
        self.sizes = np.array(sizes, dtype=np.int64)
        self.fixed(1)

    def fixed(self, length: int) -> int:
        row = np.zeros(len(self.starts) + 1, dtype=np.int64)
        row[0] = length
        return self._put(row)

    def axis(self, tensor: Labelled, axis: int) -> int:
        """The row of one axis of a tensor; a batch counts as one image."""
        labels = tensor.axes.get(axis)
        return self.fixed(tensor.shape[axis]) if labels is None else self.length(labels)

    def length(self, labels: np.ndarray) -> int:
        """The row of the number of kept positions among these."""
        counts = np.bincount(labels - FIXED, minlength=self.units.total + 1)
        row = np.zeros(len(self.starts) + 1, dtype=np.int64)
        row[0] = counts[0] + counts[1]
        for number, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            per_unit = counts[1 + start : 1 + start + size]
            if (per_unit != per_unit[0]).any():
                raise ModelError(
                    "a group whose units are all alike",
                    received=f"units of {self.units.groups[number].name!r} hold different numbers of channels here",
                    where="channel groups",
                    cure="freeze this group: add its layer to ignored_layers",
                )
            row[1 + number] = per_unit[0]
        return self._put(row)

    def product(self, tensor: Labelled) -> tuple[list[int], int]:
        """Number of elements: rows of the axes that shrink, and the product of the others."""
        rows = [self.axis(tensor, axis) for axis in sorted(tensor.axes) if axis != 0 or not self.is_batch(tensor, 0)]
        skipped = [axis for axis in tensor.axes if axis == 0 and self.is_batch(tensor, 0)]
        constant = 1
        for axis, size in enumerate(tensor.shape):
            constant *= size if axis not in tensor.axes else size // BATCH if axis in skipped else 1
        return rows, constant

    @staticmethod
    def is_batch(tensor: Labelled, axis: int) -> bool:
        """Whether an axis that may shrink holds images."""
        labels = tensor.axes[axis]
        return bool(((labels >= 0) & (labels < BATCH)).all())

    def _put(self, row: np.ndarray) -> int:
        key = row.tobytes()
        if key not in self.index:
            self.index[key] = len(self.rows)
            self.rows.append(row)
        return self.index[key]

    @property
    def matrix_RG(self) -> np.ndarray:
        return np.stack(self.rows)


@dataclass(frozen=True)
class Terms:
    """Products of rows: term n is factor[n] * product over k of lengths[rows[n, k]]."""

    rows_NK: np.ndarray
    factor_N: np.ndarray

    @staticmethod
    def of(terms: Sequence[tuple[Sequence[int], int]]) -> Terms:
        width = max((len(rows) for rows, _ in terms), default=1) or 1
        padded = [list(rows) + [ONE] * (width - len(rows)) for rows, _ in terms]
        rows = np.array(padded, dtype=np.int64).reshape(len(terms), width)
        return Terms(rows, np.array([factor for _, factor in terms], dtype=np.int64))

    def values(self, lengths_R: np.ndarray) -> np.ndarray:
        return lengths_R[self.rows_NK].prod(axis=1) * self.factor_N


def width_vector(units: Units, selection: Selection) -> np.ndarray:
    """1, then the number of kept units of every elastic group."""
    kept = selection.as_dict
    widths = [len(kept[group.name]) if group.name in kept else group.size for group in units.groups]
    return np.array([1, *widths], dtype=np.int64)
