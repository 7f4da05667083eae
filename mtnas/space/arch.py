"""An `Arch` is one option for every choice: frozen, hashable, canonical JSON, short stable id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mtnas.base.errors import SpaceError

Option = int | float | str


@dataclass(frozen=True)
class Arch:
    """One option for every choice of a space, in the space's order. Build it with `Arch.of`."""

    options: tuple[tuple[str, Option], ...]

    @staticmethod
    def of(options: Mapping[str, Option]) -> Arch:
        return Arch(tuple(options.items()))

    def __getitem__(self, name: str) -> Option:
        for key, option in self.options:
            if key == name:
                return option
        raise SpaceError("a choice of this arch", received=repr(name), where=f"arch {self.id}")

    @property
    def as_dict(self) -> dict[str, Option]:
        return dict(self.options)

    @cached_property
    def id(self) -> str:
        """Twelve hex digits that depend on names and options only, not on their order."""
        text = json.dumps(sorted(self.options), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Option]:
        return dict(self.options)

    @staticmethod
    def from_json(data: Mapping[str, Option]) -> Arch:
        return Arch.of(data)
