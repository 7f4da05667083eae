"""Channel groups and selections: which channels must shrink together, and which are kept.

A *unit* of a group is the smallest thing that can be removed: one channel in most networks, one channel of every
block where a grouped convolution ties blocks together. A `Selection` keeps a subset of units for each group (a
slimmed width keeps a prefix, a pruned group any subset), may leave out whole blocks (`mtnas.base.blocks`), which
then return their input, may run everything at a smaller input size, and chooses the options of forks
(`mtnas.base.forks`). Shape letters: U = units of a group, K = positions on one tensor axis that belong to one unit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from mtnas.base.blocks import inside
from mtnas.base.errors import SpaceError
from mtnas.base.forks import Fork, Need, check_chosen
from mtnas.base.tables import nearest

#: Keys of the skipped blocks, the input size and the chosen options in a selection's JSON; no group has such a name.
_SKIPPED, _SIZE, _CHOSEN = "/skipped", "/size", "/chosen"

#: Height and width in pixels.
Size = tuple[int, int]


@dataclass(frozen=True)
class Member:
    """One tensor axis that shrinks with a group.

    Args:
        name: parameter or buffer name as in `state_dict()`.
        axis: the axis that is sliced.
        positions_UK: row u lists the positions on that axis that belong to unit u.
        role: `out` (produces the channels), `in` (consumes them), `norm` (per-channel affine or statistics).
    """

    name: str
    axis: int
    positions_UK: tuple[tuple[int, ...], ...]
    role: str

    def to_json(self) -> dict[str, Any]:
        plain = all(row == (u,) for u, row in enumerate(self.positions_UK))
        positions: Any = len(self.positions_UK) if plain else [list(row) for row in self.positions_UK]
        return {"name": self.name, "axis": self.axis, "role": self.role, "positions": positions}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Member:
        raw = data["positions"]
        rows = [(u,) for u in range(raw)] if isinstance(raw, int) else [tuple(row) for row in raw]
        return Member(data["name"], data["axis"], tuple(rows), data["role"])


@dataclass(frozen=True)
class ChannelGroup:
    """All tensor axes that must shrink together.

    Args:
        name: the producing layer's name, unique in the model.
        size: number of units at full width.
        members: the axes that shrink.
        owners: tasks whose output the group reaches, in the model's output order.
        frozen: why it may not shrink; empty when it may.
        needs: options of forks without which nothing of it exists.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    owners: tuple[str, ...]
    frozen: str = ""
    needs: tuple[Need, ...] = ()

    @property
    def elastic(self) -> bool:
        return not self.frozen

    def to_json(self) -> dict[str, Any]:
        record = {
            "name": self.name,
            "size": self.size,
            "owners": list(self.owners),
            "frozen": self.frozen,
            "members": [member.to_json() for member in self.members],
        }
        return {**record, "needs": [need.to_json() for need in self.needs]} if self.needs else record

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ChannelGroup:
        members = tuple(Member.from_json(member) for member in data["members"])
        needs = tuple(Need.from_json(need) for need in data.get("needs", ()))
        return ChannelGroup(data["name"], data["size"], members, tuple(data["owners"]), data["frozen"], needs)


@dataclass(frozen=True)
class Selection:
    """One network of an elastic model: frozen, hashable, with a short stable id. Build it with `Selection.of`.

    Args:
        kept: the kept units of every group that is named; the others are kept whole.
        skipped: the blocks that are left out.
        size: height and width in pixels that the image is resized to; None runs it as it comes.
        chosen: the option of every fork that is named; the others take their default.
    """

    kept: tuple[tuple[str, tuple[int, ...]], ...]
    skipped: tuple[str, ...] = ()
    size: Size | None = None
    chosen: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def of(
        kept: Mapping[str, Iterable[int]],
        skipped: Iterable[str] = (),
        size: Sequence[int] | None = None,
        chosen: Mapping[str, str] | None = None,
    ) -> Selection:
        """Sort names and units, so that equal selections are equal values."""
        options = tuple(sorted((chosen or {}).items()))
        return Selection(_sorted(kept), tuple(sorted(set(skipped))), _pair(size), options)

    @staticmethod
    def prefix(
        widths: Mapping[str, int],
        skipped: Iterable[str] = (),
        size: Sequence[int] | None = None,
        chosen: Mapping[str, str] | None = None,
    ) -> Selection:
        """The first `width` units of each named group."""
        return Selection.of({name: range(width) for name, width in widths.items()}, skipped, size, chosen)

    def with_kept(self, kept: Mapping[str, Iterable[int]]) -> Selection:
        """Other units, all else as it is."""
        return replace(self, kept=_sorted(kept))

    @property
    def as_dict(self) -> Mapping[str, tuple[int, ...]]:
        return MappingProxyType(dict(self.kept))

    def lacks(self, group: ChannelGroup) -> bool:
        """Whether the group lies wholly inside skipped blocks or options not chosen: nothing of it is left."""
        if group.needs and not self._meets(group.needs):
            return True
        return bool(self.skipped and group.members) and all(
            inside(member.name, self.skipped) for member in group.members
        )

    def _meets(self, needs: Sequence[Need]) -> bool:
        chosen = dict(self.chosen)
        return all(need.met(chosen) for need in needs)

    def widths(self, groups: Sequence[ChannelGroup]) -> dict[str, int]:
        """Number of kept units of each group, full width where the selection is silent, 0 where nothing is left."""
        kept = self.as_dict
        sizes = {group.name: len(kept[group.name]) if group.name in kept else group.size for group in groups}
        return sizes | {group.name: 0 for group in groups if self.lacks(group)}

    def compact(self, groups: Sequence[ChannelGroup], forks: Sequence[Fork] = ()) -> Selection:
        """Without what makes no difference: one value per distinct network.

        Groups that are kept whole or of which nothing is left, defaults of forks, and forks that do not run.
        """
        idle = {
            fork.name
            for fork in forks
            if (fork.name, fork.default) in self.chosen
            or inside(fork.name, self.skipped)
            or not self._meets(fork.needs)
        }
        chosen = tuple(pair for pair in self.chosen if pair[0] not in idle)
        size = {group.name: group.size for group in groups}
        gone = {group.name for group in groups if self.lacks(group)}
        kept = tuple((name, units) for name, units in self.kept if len(units) != size.get(name) and name not in gone)
        return replace(self, kept=kept, chosen=chosen)

    @property
    def id(self) -> str:
        """Twelve hex digits; what a selection does not use does not enter them."""
        parts: list[Any] = [[[name, list(units)] for name, units in self.kept]]
        parts += [list(self.skipped)] if self.skipped else []
        parts += [{"size": list(self.size)}] if self.size else []
        parts += [{"chosen": [list(pair) for pair in self.chosen]}] if self.chosen else []
        text = json.dumps(parts if len(parts) > 1 else parts[0], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """Group -> kept units; where there are any, names of skipped blocks under `/skipped`, pixels under `/size`,
        options of forks under `/chosen`.
        """
        found: dict[str, Any] = {name: list(units) for name, units in self.kept}
        found |= {_SKIPPED: list(self.skipped)} if self.skipped else {}
        found |= {_SIZE: list(self.size)} if self.size else {}
        return found | ({_CHOSEN: dict(self.chosen)} if self.chosen else {})

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Selection:
        kept = {name: units for name, units in data.items() if name not in (_SKIPPED, _SIZE, _CHOSEN)}
        return Selection.of(kept, data.get(_SKIPPED, ()), data.get(_SIZE), data.get(_CHOSEN))

    def check(
        self,
        groups: Sequence[ChannelGroup],
        blocks: Sequence[str] = (),
        sizes: Collection[Size] = (),
        forks: Sequence[Fork] = (),
    ) -> None:
        """Raise `SpaceError` unless every named group exists, may shrink, and keeps at least one valid unit.

        Args:
            groups: the model's groups.
            blocks: names of the blocks that may be left out.
            sizes: the smaller input sizes.
            forks: the forks that may be chosen from.
        """
        check_chosen(self.chosen, forks)
        if self.size is not None and self.size not in sizes:
            raise SpaceError(
                "an input size that the network can run at",
                received=size_text(self.size),
                where="selection",
                cure=f"one of {', '.join(map(size_text, sizes))}"
                if sizes
                else "make the model elastic with a space that has resolution",
            )
        for name in self.skipped:
            if name not in blocks:
                raise SpaceError(
                    "a block that may be left out",
                    received=repr(name),
                    where="selection",
                    cure=nearest(name, blocks) if blocks else "make the model elastic with a space that has depth",
                )
        known = {group.name: group for group in groups}
        for name, units in self.kept:
            group = known.get(name)
            if group is None:
                raise SpaceError(
                    "a group of this model", received=repr(name), where="selection", cure="see elastic.summary()"
                )
            if not units or units[0] < 0 or units[-1] >= group.size:
                raise SpaceError(
                    f"at least one unit out of 0..{group.size - 1}",
                    received=str(units[:8]),
                    where=f"selection of {name}",
                )
            if group.frozen and len(units) != group.size:
                raise SpaceError(
                    "a group that may shrink", received=f"{name} is frozen: {group.frozen}", where="selection"
                )


def size_text(size: Size) -> str:
    """Height and width as an input size is named: `48x64`."""
    return f"{size[0]}x{size[1]}"


def _sorted(kept: Mapping[str, Iterable[int]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tuple(sorted({int(u) for u in kept[name]}))) for name in sorted(kept))


def _pair(size: Sequence[int] | None) -> Size | None:
    if size is None:
        return None
    if len(size) != 2 or min(size) < 1:
        raise SpaceError("height and width in pixels", received=str(list(size)), where="size of a selection")
    return int(size[0]), int(size[1])


def kept_positions(group: ChannelGroup, member: Member, units: Sequence[int]) -> np.ndarray:
    """Positions on the member's axis that stay when only `units` of the group are kept, ascending."""
    rows = [member.positions_UK[u] for u in units]
    return np.sort(np.fromiter((position for row in rows for position in row), dtype=np.int64))


def axis_slices(
    groups: Sequence[ChannelGroup], selection: Selection, shapes: Mapping[str, Sequence[int]]
) -> dict[str, dict[int, np.ndarray]]:
    """For every tensor that changes: axis -> kept positions, ascending.

    An axis may belong to several groups (concatenation); positions of no group are always kept.

    Args:
        groups: the model's groups.
        selection: the kept units.
        shapes: full shape of every tensor named by a member.
    """
    kept = selection.as_dict
    masks: dict[tuple[str, int], np.ndarray] = {}
    for group in groups:
        units = kept.get(group.name)
        if units is None or len(units) == group.size:
            continue
        gone = sorted(set(range(group.size)) - set(units))
        for member in group.members:
            key = (member.name, member.axis)
            if key not in masks:
                masks[key] = np.ones(shapes[member.name][member.axis], dtype=bool)
            masks[key][[p for u in gone for p in member.positions_UK[u]]] = False
    slices: dict[str, dict[int, np.ndarray]] = {}
    for (name, axis), mask in masks.items():
        slices.setdefault(name, {})[axis] = np.flatnonzero(mask)
    return slices


def units_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Group -> channels of a unit, which widths are counted in, from the groups' rows in a run's `space.json`; 1 in
    runs of earlier versions, which do not say it."""
    return {str(row.get("name")): int(row.get("channels_per_unit", 1)) for row in rows}
