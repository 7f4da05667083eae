"""Forks: places of a network with several ways on, of which an arch chooses one, or the first few.

An *operator* fork runs one of its options; an *experts* fork runs its first n branches and adds what they give. What
is not chosen does not run, is not extracted and not cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtnas.base.blocks import inside
from mtnas.base.errors import SpaceError
from mtnas.base.tables import nearest

OPERATOR, EXPERTS = "operator", "experts"


@dataclass(frozen=True)
class Need:
    """Something lies inside a fork, and exists only with some of its options.

    Args:
        fork: the fork's name.
        options: with these it exists.
        by_default: whether it exists when nothing is said about the fork.
    """

    fork: str
    options: tuple[str, ...]
    by_default: bool

    def met(self, chosen: Mapping[str, str]) -> bool:
        return chosen[self.fork] in self.options if self.fork in chosen else self.by_default

    def to_json(self) -> list[Any]:
        return [self.fork, list(self.options), self.by_default]

    @staticmethod
    def from_json(data: Sequence[Any]) -> Need:
        return Need(data[0], tuple(data[1]), data[2])


@dataclass(frozen=True)
class Fork:
    """One place with several ways on.

    Args:
        name: the module's name, unique in the model.
        kind: `operator` or `experts`.
        options: operators by name, cheapest first; numbers of experts, ascending. The last one is the default.
        parts: a module's name for each option; of experts, the branch that comes with it.
        owners: tasks whose output the fork reaches, in the model's output order.
        macs: multiply-adds of each option at full width, for one image.
        needs: options of other forks without which it does not exist.
        refused: why there is nothing to choose; empty when there is.
    """

    name: str
    kind: str
    options: tuple[str, ...]
    parts: tuple[str, ...]
    owners: tuple[str, ...] = ()
    macs: tuple[int, ...] = ()
    needs: tuple[Need, ...] = ()
    refused: str = ""

    @property
    def default(self) -> str:
        return self.options[-1]

    @property
    def choice(self) -> str:
        """The name of its choice in a space."""
        return f"{self.name}/{self.kind}"

    def without(self, option: str) -> tuple[str, ...]:
        """Modules that do not run with this option."""
        at = self.options.index(option)
        return self.parts[at + 1 :] if self.kind == EXPERTS else (*self.parts[:at], *self.parts[at + 1 :])

    def need(self, part: str) -> Need:
        """With which options one of its parts exists."""
        at = self.parts.index(part)
        options = self.options[at:] if self.kind == EXPERTS else (self.options[at],)
        return Need(self.name, options, self.default in options)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "options": list(self.options),
            "parts": list(self.parts),
            "owners": list(self.owners),
            "macs": list(self.macs),
            "needs": [need.to_json() for need in self.needs],
            "refused": self.refused,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Fork:
        return Fork(
            data["name"],
            data["kind"],
            tuple(data["options"]),
            tuple(data["parts"]),
            tuple(data["owners"]),
            tuple(data["macs"]),
            tuple(Need.from_json(need) for need in data["needs"]),
            data["refused"],
        )


def each(work: Callable[..., Any], *results: Any) -> Any:
    """`work` on what modules return: one tensor each, or a dict of tensors by the same names each."""
    if isinstance(results[0], Mapping):
        return {name: work(*(result[name] for result in results)) for name in results[0]}
    return work(*results)


def offered(forks: Iterable[Fork]) -> tuple[Fork, ...]:
    """Forks at which there is something to choose."""
    return tuple(fork for fork in forks if not fork.refused)


def needs_of(names: Sequence[str], forks: Iterable[Fork]) -> tuple[Need, ...]:
    """The options without which none of these modules or tensors exists."""
    return tuple(
        fork.need(part) for fork in forks for part in fork.parts if names and all(inside(n, [part]) for n in names)
    )


def left_out(forks: Sequence[Fork], chosen: Mapping[str, str]) -> tuple[str, ...]:
    """Modules that do not run, whatever fork they belong to."""
    return tuple(part for fork in forks for part in fork.without(chosen.get(fork.name, fork.default)))


def check_chosen(chosen: Sequence[tuple[str, str]], forks: Sequence[Fork]) -> None:
    """Raise `SpaceError` unless every named fork exists and has the option."""
    known = {fork.name: fork for fork in forks}
    for name, option in chosen:
        if name not in known:
            cure = nearest(name, known) if known else "make the model elastic with a space that has operators, experts"
            raise SpaceError("a fork with options to choose from", received=repr(name), where="selection", cure=cure)
        if option not in known[name].options:
            raise SpaceError(
                f"one of {list(known[name].options)}",
                received=repr(option),
                where=f"selection of {name}",
                cure=nearest(option, known[name].options),
            )
