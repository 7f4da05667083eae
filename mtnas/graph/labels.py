"""Labels: which unit of which channel group each position of a tensor axis belongs to.

Words: a *unit* is the smallest thing a selection removes (`mtnas.base.groups`). Units of all elastic groups are
numbered through; the images of the batch come first, so that the batch axis is followed like any other group.
FIXED marks a position that always stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mtnas.base.errors import ModelError
from mtnas.base.groups import ChannelGroup, Selection

FIXED = -1
#: Batch size the graph is traced with: two, so that the batch axis can be told from axes of size one.
BATCH = 2

Axes = dict[int, np.ndarray]


@dataclass(frozen=True)
class Labelled:
    """A tensor's full shape, and for each axis that may shrink the unit of every position."""

    shape: tuple[int, ...]
    axes: Axes = field(default_factory=dict)

    def axis(self, index: int) -> np.ndarray:
        """Labels of one axis, all FIXED where nothing shrinks."""
        found = self.axes.get(index)
        return np.full(self.shape[index], FIXED, dtype=np.int64) if found is None else found


class Units:
    """The numbering of all units, and masks of the kept ones."""

    def __init__(self, groups: Sequence[ChannelGroup]) -> None:
        self.groups = tuple(group for group in groups if group.elastic and group.size > 1)
        self.offsets: dict[str, int] = {}
        total = BATCH
        for group in self.groups:
            self.offsets[group.name] = total
            total += group.size
        self.total = total

    def mask(self, selection: Selection) -> np.ndarray:
        """Kept units as booleans; the entry that FIXED (-1) reads is true, and one image of the batch stays."""
        mask = np.ones(self.total + 1, dtype=bool)
        mask[1:BATCH] = False
        sizes = {group.name: group.size for group in self.groups}
        for name, units in selection.kept:
            if name in sizes:
                start = self.offsets[name]
                mask[start : start + sizes[name]] = False
                mask[start + np.asarray(units, dtype=np.int64)] = True
        return mask

    def parameter_axes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Axes]:
        """Labels of every parameter axis that is a member of an elastic group."""
        found: dict[str, Axes] = {}
        for group in self.groups:
            for member in group.members:
                if member.name not in shapes:
                    continue
                axes = found.setdefault(member.name, {})
                size = shapes[member.name][member.axis]
                labels = axes.setdefault(member.axis, np.full(size, FIXED, dtype=np.int64))
                for unit, positions in enumerate(member.positions_UK):
                    labels[list(positions)] = self.offsets[group.name] + unit
        return found


def merge(labels: Sequence[np.ndarray], where: str) -> np.ndarray:
    """The common labels of axes that meet element by element; they must agree."""
    first = labels[0]
    for other in labels[1:]:
        if not np.array_equal(first, other):
            raise disagreement(where)
    return first


def tidy(axes: Axes) -> Axes:
    """Without the axes on which nothing shrinks."""
    return {axis: labels for axis, labels in axes.items() if (labels != FIXED).any()}


def disagreement(where: str) -> ModelError:
    return ModelError(
        "channels that shrink together wherever they meet",
        received="two tensors of different groups, or one that is in no group",
        where=where,
        cure="add the layers around this node to ignored_layers, so that they keep their width",
    )


def unsupported(what: str, where: str) -> ModelError:
    return ModelError(
        "an operator through which channels can be followed",
        received=what,
        where=where,
        cure="add the layers that feed this node to ignored_layers, so that they keep their width",
    )
