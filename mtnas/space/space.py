"""A `Space` is an ordered set of choices; every method that is random takes its generator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mtnas.base.errors import SpaceError
from mtnas.base.files import content_hash
from mtnas.space.arch import Arch, Option
from mtnas.space.choice import Choice


@dataclass(frozen=True)
class Space:
    """All archs that can be built from a tuple of choices. Shape letters: N = archs, C = choices."""

    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        names = [choice.name for choice in self.choices]
        if len(set(names)) != len(names):
            raise SpaceError("choices with different names", received=str(names), where="space")

    @cached_property
    def by_name(self) -> Mapping[str, Choice]:
        return {choice.name: choice for choice in self.choices}

    @property
    def log10_size(self) -> float:
        """log10 of the number of archs."""
        return sum(math.log10(len(choice.options)) for choice in self.choices)

    @property
    def largest(self) -> Arch:
        return Arch(tuple((choice.name, choice.options[-1]) for choice in self.choices))

    @property
    def smallest(self) -> Arch:
        return Arch(tuple((choice.name, choice.options[0]) for choice in self.choices))

    @cached_property
    def id(self) -> str:
        return content_hash(self.to_json())[:12]

    def check(self, arch: Arch) -> None:
        """Raise `SpaceError` naming the first choice that does not fit."""
        given = arch.as_dict
        for choice in self.choices:
            if choice.name not in given:
                raise SpaceError(
                    "an option for every choice", received=f"none for {choice.name}", where=f"arch {arch.id}"
                )
            choice.index(given[choice.name])
        extra = sorted(set(given) - set(self.by_name))
        if extra:
            raise SpaceError("choices of this space only", received=str(extra), where=f"arch {arch.id}")

    def sample(self, rng: np.random.Generator) -> Arch:
        """Every option equally likely, choices independent."""
        return Arch(tuple((c.name, c.options[int(rng.integers(len(c.options)))]) for c in self.choices))

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """Archs that differ by one step in one choice; operators are all one step from each other."""
        given = arch.as_dict
        for choice in self.choices:
            at, count = choice.index(given[choice.name]), len(choice.options)
            steps = range(count) if choice.kind == "operator" else (at - 1, at + 1)
            for step in steps:
                if 0 <= step < count and step != at:
                    yield Arch(tuple((n, choice.options[step] if n == choice.name else o) for n, o in arch.options))

    def with_fixed(self, options: Mapping[str, Option]) -> Space:
        """The same space with some choices held at one option."""
        for name, option in options.items():
            if name not in self.by_name:
                raise SpaceError("a choice of this space", received=repr(name), where="fixed")
            self.by_name[name].index(option)
        return Space(
            tuple(
                Choice(c.name, (options[c.name],), c.kind, c.owners) if c.name in options else c for c in self.choices
            )
        )

    # --- encoding ---------------------------------------------------------------------------------------------

    def encode(self, archs: Sequence[Arch]) -> np.ndarray:
        """(N, C) integers: the option's index in its choice."""
        rows = [[c.index(arch[c.name]) for c in self.choices] for arch in archs]
        return np.asarray(rows, dtype=np.int64).reshape(len(archs), len(self.choices))

    def decode(self, indices_NC: np.ndarray) -> list[Arch]:
        """Inverse of `encode`; raises `SpaceError` outside the options."""
        upper = np.array([len(c.options) for c in self.choices])
        if indices_NC.ndim != 2 or indices_NC.shape[1] != len(self.choices):
            raise SpaceError(f"shape (N, {len(self.choices)})", received=str(indices_NC.shape), where="decode")
        if (indices_NC < 0).any() or (indices_NC >= upper).any():
            raise SpaceError("indices inside every choice", received="an index outside", where="decode")
        return [
            Arch(tuple((c.name, c.options[int(i)]) for c, i in zip(self.choices, row, strict=True)))
            for row in indices_NC
        ]

    def one_hot(self, archs: Sequence[Arch]) -> np.ndarray:
        """(N, sum of option counts) zeros and ones."""
        indices_NC = self.encode(archs)
        parts = [np.eye(len(c.options))[indices_NC[:, k]] for k, c in enumerate(self.choices)]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(archs), 0))

    # --- files ------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {"schema": "space/1", "choices": [choice.to_json() for choice in self.choices]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Space:
        return Space(tuple(Choice.from_json(choice) for choice in data["choices"]))
