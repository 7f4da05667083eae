"""Blocks: parts of a network that can be left out, because they only add something to their input.

A skipped block returns its input. Consecutive blocks of one stage share one depth choice, which keeps a prefix of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """One part that can be left out.

    Args:
        name: the module's name, unique in the model.
        stage: the name of its depth choice; empty when it is refused.
        owners: tasks whose output the block reaches, in the model's output order.
        refused: why it may not be left out; empty when it may.
    """

    name: str
    stage: str
    owners: tuple[str, ...]
    refused: str = ""

    @property
    def skippable(self) -> bool:
        return not self.refused


def inside(name: str, blocks: Sequence[str]) -> bool:
    """Whether a module, parameter or buffer belongs to one of these blocks."""
    return any(name == block or name.startswith(f"{block}.") for block in blocks)


def all_inside(names: Iterable[str], blocks: Sequence[str]) -> frozenset[str]:
    """Those of many names that belong to one of these blocks."""
    beginnings = tuple(f"{block}." for block in blocks)
    return frozenset(name for name in names if f"{name}.".startswith(beginnings))


def skippable_names(blocks: Sequence[Block]) -> tuple[str, ...]:
    """Names of the blocks that may be left out."""
    return tuple(block.name for block in blocks if block.skippable)
