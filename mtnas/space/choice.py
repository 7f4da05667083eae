"""A `Choice` is one named discrete decision with ordered options, smallest first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtnas.base.errors import SpaceError
from mtnas.base.groups import Size
from mtnas.space.arch import Option

KINDS = ("width", "depth", "operator", "experts", "resolution", "precision")
_ORDERED = {"width": "widths", "depth": "depths", "experts": "numbers of experts"}


@dataclass(frozen=True)
class Choice:
    """One decision.

    Args:
        name: unique in its space; a width choice has the name of its channel group, a depth choice that of its stage,
            the choice of a fork its name with `/operator` or `/experts` behind it, that of the input size is `input`.
        options: at least one, without duplicates; cheapest first, the last one is the unpruned network's.
        kind: a row of `KINDS`; the options of an `operator` are names, and no two are more alike than others.
        owners: the tasks that the decision touches; several = shared encoder.
    """

    name: str
    options: tuple[Option, ...]
    kind: str = "width"
    owners: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.options or len(set(self.options)) != len(self.options):
            raise SpaceError(
                "options without duplicates, at least one", received=str(self.options), where=f"choice {self.name}"
            )
        if self.kind not in KINDS:
            raise SpaceError(f"a kind out of {KINDS}", received=self.kind, where=f"choice {self.name}")
        if self.kind in ("width", "depth", "experts") and list(self.options) != sorted(self.options, key=float):
            raise SpaceError(
                f"{self.kind.removesuffix('s')}s in ascending order",
                received=str(self.options),
                where=f"choice {self.name}",
            )
        if self.kind == "resolution" and list(self.options) != sorted(self.options, key=_area):
            raise SpaceError("input sizes in ascending area", received=str(self.options), where=f"choice {self.name}")

    def index(self, option: Option) -> int:
        if option not in self.options:
            raise SpaceError(f"one of {list(self.options)}", received=repr(option), where=f"choice {self.name}")
        return self.options.index(option)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "options": list(self.options), "kind": self.kind, "owners": list(self.owners)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Choice:
        return Choice(data["name"], tuple(data["options"]), data["kind"], tuple(data["owners"]))


def read_size(option: Option) -> Size:
    """Height and width in pixels of an option such as `48x64`."""
    height, sign, width = str(option).partition("x")
    if not sign or not (height.isdecimal() and width.isdecimal()) or not int(height) * int(width):
        raise SpaceError("height x width in pixels, such as 48x64", received=repr(option), where="input size")
    return int(height), int(width)


def _area(option: Option) -> int:
    return math.prod(read_size(option))
