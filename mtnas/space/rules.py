"""Rules that turn a model's channel groups into width choices: which fractions, on which steps, never below what.

They also say whether blocks that can be left out become depth choices, and forks choices of operators and experts, and
which smaller input sizes may be taken.

A rule file lies in `search_spaces/` or anywhere else; its grammar is told in `search_spaces/README.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from mtnas.base.errors import SpaceError
from mtnas.base.resources import resource_folder
from mtnas.base.tables import nearest

DEFAULT_RATIOS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Override:
    """Other fractions for the groups whose name matches a glob.

    Args:
        groups: a glob on group names, such as `encoder.stem*`; letter case matters.
        ratios: fractions of the full width; `(1.0,)` holds the groups at full width.
    """

    groups: str
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class SpaceRules:
    """How wide a group may be, whether blocks may be left out, forks be chosen from, and at which sizes it may run.

    Args:
        shared: fractions of the full width for groups that reach several tasks.
        decoder: fractions for groups that reach one task.
        overrides: fractions for groups by name; the first match wins.
        min_channels: no option is narrower, unless the group itself is.
        round_to: options are multiples of this; `None` leaves the step to the caller (the device's step).
        depth: whether the blocks of a stage may be left out, from its end.
        operators: whether every `OneOf` may run any of its options.
        experts: whether every `SumOf` may run its first branches alone.
        resolution: fractions of the full height and width that the image may be resized to.
        description: one line for people.
    """

    shared: tuple[float, ...] = DEFAULT_RATIOS
    decoder: tuple[float, ...] = DEFAULT_RATIOS
    overrides: tuple[Override, ...] = ()
    min_channels: int = 8
    round_to: int | None = None
    depth: bool = False
    operators: bool = False
    experts: bool = False
    resolution: tuple[float, ...] = (1.0,)
    description: str = ""

    def ratios(self, group_name: str, owners: int) -> tuple[float, ...]:
        """The fractions that hold for one group."""
        for override in self.overrides:
            if fnmatchcase(group_name, override.groups):
                return override.ratios
        return self.shared if owners > 1 else self.decoder

    def options(self, group_name: str, size: int, owners: int, round_to: int) -> tuple[int, ...]:
        """Widths of one group: ascending, unique, the last one is `size`.

        Args:
            group_name: matched against the overrides.
            size: number of units at full width.
            owners: number of tasks that the group reaches.
            round_to: the device's step; a step written in the rules goes before it.
        """
        step = self.round_to or round_to
        if size < 1 or step < 1:
            raise SpaceError("a size and a step of at least 1", received=f"{size}, {step}", where=f"group {group_name}")
        floor = math.ceil(max(self.min_channels, step) / step) * step
        widths = {max(floor, _nearest_multiple(ratio * size, step)) for ratio in self.ratios(group_name, owners)}
        return (*sorted(width for width in widths if width < size), size)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "schema": "rules/1"}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SpaceRules:
        return parse_rules({key: value for key, value in data.items() if key != "schema"}, "rules")


def _nearest_multiple(width: float, step: int) -> int:
    """The multiple of `step` nearest to `width`; a tie goes up."""
    return math.floor(width / step + 0.5) * step


# --- files ----------------------------------------------------------------------------------------------------


def shipped_rules() -> tuple[str, ...]:
    """Names of the rule files that travel with the package."""
    return tuple(sorted(path.stem for path in resource_folder("search_spaces").glob("*.yaml")))


def read_rules(name_or_path: str | Path) -> SpaceRules:
    """Rules by shipped name (`default`) or from a YAML file of your own (`my/space.yaml`)."""
    text = str(name_or_path)
    if Path(text).suffix in (".yaml", ".yml") or Path(text).name != text:
        path = Path(text)
    elif text in shipped_rules():
        path = resource_folder("search_spaces") / f"{text}.yaml"
    else:
        raise SpaceError(
            "a shipped search space, or a path that ends in .yaml",
            received=repr(text),
            where="space",
            cure=nearest(text, shipped_rules()),
        )
    return parse_rules(_load_yaml(path), str(path))


def _load_yaml(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpaceError(
            "a search space that can be read",
            received=error.strerror or str(error),
            where=str(path),
            cure=f"give a path, or one of the shipped names: {', '.join(shipped_rules())}",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpaceError(
            "valid YAML", received=str(error), where=str(path), cure="see search_spaces/README.md"
        ) from error


def parse_rules(raw: object, where: str) -> SpaceRules:
    """Check a mapping as YAML gives it; unknown keys and impossible values raise `SpaceError`."""
    data = _mapping(raw, [field.name for field in fields(SpaceRules)], where)
    defaults = SpaceRules()
    step = data.get("round_to")
    return SpaceRules(
        shared=_ratios(data.get("shared", defaults.shared), f"{where}: shared"),
        decoder=_ratios(data.get("decoder", defaults.decoder), f"{where}: decoder"),
        overrides=_overrides(data.get("overrides", ()), f"{where}: overrides"),
        min_channels=_positive(data.get("min_channels", defaults.min_channels), f"{where}: min_channels"),
        round_to=None if step is None else _positive(step, f"{where}: round_to"),
        depth=_flag(data.get("depth", defaults.depth), f"{where}: depth"),
        operators=_flag(data.get("operators", defaults.operators), f"{where}: operators"),
        experts=_flag(data.get("experts", defaults.experts), f"{where}: experts"),
        resolution=_ratios(data.get("resolution", defaults.resolution), f"{where}: resolution"),
        description=str(data.get("description", "")),
    )


def _mapping(raw: object, known: Sequence[str], where: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise SpaceError(f"keys out of: {', '.join(known)}", received=repr(raw)[:80], where=where)
    for key in raw:
        if key not in known:
            raise SpaceError("a known key", received=repr(key), where=f"{where}: {key}", cure=nearest(str(key), known))
    return raw


def _overrides(raw: object, where: str) -> tuple[Override, ...]:
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise SpaceError("a list of {groups, ratios}", received=repr(raw)[:80], where=where)
    overrides = []
    for index, item in enumerate(raw):
        at = f"{where}[{index}]"
        data = _mapping(item, ["groups", "ratios"], at)
        if not isinstance(data.get("groups"), str) or "ratios" not in data:
            raise SpaceError("both groups (a glob) and ratios", received=repr(item)[:80], where=at)
        overrides.append(Override(data["groups"], _ratios(data["ratios"], f"{at}.ratios")))
    return tuple(overrides)


def _ratios(raw: object, where: str) -> tuple[float, ...]:
    numbers = list(raw) if isinstance(raw, Sequence) and not isinstance(raw, str) else []
    good = [x for x in numbers if isinstance(x, int | float) and not isinstance(x, bool) and 0 < x <= 1]
    if not numbers or len(good) != len(numbers):
        raise SpaceError(
            "a list of fractions above 0 and at most 1",
            received=repr(raw)[:80],
            where=where,
            cure="for example [0.25, 0.5, 0.75, 1.0]; the full width is always an option",
        )
    return tuple(sorted({float(x) for x in good}))


def _positive(raw: object, where: str) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or raw < 1:
        raise SpaceError("a whole number of at least 1", received=repr(raw), where=where)
    return raw


def _flag(raw: object, where: str) -> bool:
    if not isinstance(raw, bool):
        raise SpaceError("true or false", received=repr(raw)[:80], where=where)
    return raw
