"""Four splits that share nothing, out of the parts a data set comes with."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from mtnas.base.errors import JobError
from mtnas.data.config import SPLITS, DataConfig

#: of the training images where the job gives no number
HELD_SHARE = 0.1

Key = TypeVar("Key", bound=Hashable)


def runs_of(numbers: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Maximal runs of consecutive numbers."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    return [tuple(int(n) for n in run) for run in np.split(np.asarray(numbers), breaks)]


def chunks_of(keys: Sequence[Key], size: int) -> list[tuple[Key, ...]]:
    """Neighbours together, `size` at a time: for sets in which neighbours look alike."""
    return [tuple(keys[start : start + size]) for start in range(0, len(keys), size)]


def held_back(groups: Sequence[tuple[Key, ...]], wanted: int, split: str = "calibrate") -> tuple[Key, ...]:
    """At least `wanted` keys in whole groups taken evenly along the set; one group always stays for training."""
    total = sum(len(group) for group in groups)
    held: list[Key] = []
    seen = 0
    for group in groups[:-1]:
        seen += len(group)
        if len(held) < wanted * seen / total:
            held += group
    if len(held) < wanted:
        raise JobError(
            f"at most {len(held)} images, so that whole scenes are left to train on",
            received=str(wanted),
            where=f"data.{split}",
            cure=f"the set has {total} images left for train and {split}: ask for fewer, or add images",
        )
    return tuple(held)


def carve(
    groups: Sequence[tuple[Key, ...]], config: DataConfig, splits: Sequence[str], share: float = HELD_SHARE
) -> dict[str, tuple[Key, ...]]:
    """`train` and the named splits out of the training part, in whole groups: no group is in two splits."""
    total = sum(len(group) for group in groups)
    left = list(groups)
    pools: dict[str, tuple[Key, ...]] = {}
    for split in splits:
        pools[split] = held_back(left, getattr(config, split) or max(1, round(share * total)), split)
        gone = set(pools[split])
        left = [group for group in left if group[0] not in gone]
    pools["train"] = tuple(key for group in left for key in group)
    return pools


def chosen(
    pools: Mapping[str, tuple[Key, ...]], config: DataConfig, *, first: bool = False
) -> dict[str, tuple[Key, ...]]:
    """As many keys of each split as the job wants: evenly along the pool, or the first ones of a shuffled pool."""
    return {split: _pick(pools[split], getattr(config, split), split, first) for split in SPLITS}


def _pick(pool: tuple[Key, ...], count: int | None, split: str, first: bool) -> tuple[Key, ...]:
    if count is None or count == len(pool):
        return pool
    if count > len(pool):
        raise JobError(f"at most {len(pool)} images", received=str(count), where=f"data.{split}")
    if first:
        return pool[:count]
    return tuple(pool[i] for i in np.linspace(0, len(pool) - 1, count).round().astype(int))
