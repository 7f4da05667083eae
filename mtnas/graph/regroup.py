"""How a reshape's target follows when the lengths of its source change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

Shape = tuple[int, ...]


def quotient(number: int, divisor: int) -> int | None:
    """The quotient, where it is whole."""
    return number // divisor if number % divisor == 0 else None


def regroup(old: Shape, new: Shape, result: Shape, entries: Sequence[int]) -> Shape | None:
    """The new shape when runs of axes are merged, split or kept; None where it cannot be told."""
    found: list[int] = []
    for axes, places in _runs(old, result):
        before, after = [old[a] for a in axes], [new[a] for a in axes]
        wanted = [result[p] for p in places]
        if before == after:
            found += wanted
        elif before == wanted:
            found += after
        elif not places:
            return None
        elif len(places) == 1:
            found.append(prod(after))
        else:
            still = next((i for i, pair in enumerate(zip(before, after)) if pair[0] != pair[1]), len(before))
            tail, more = prod(before[still:]), prod(after[still:])
            if wanted[-1] % tail or any(result[p] != 1 and entries[p] == -1 for p in places[:-1]):
                return None
            found += [*wanted[:-1], wanted[-1] // tail * more]
    return tuple(found) if prod(found) == prod(new) else None


def _runs(old: Shape, result: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Shortest runs of axes of both shapes that hold equally many values."""
    axes: list[int] = []
    places: list[int] = []
    a = p = 0
    while a < len(old) or p < len(result):
        left, right = prod(old[i] for i in axes), prod(result[i] for i in places)
        if axes and places and left == right:
            yield axes, places
            axes, places = [], []
        elif (left <= right or p == len(result)) and a < len(old):
            axes.append(a)
            a += 1
        else:
            places.append(p)
            p += 1
    yield axes, places
