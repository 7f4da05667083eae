"""The input size as a choice: which smaller sizes a rule means, and how they are named."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from mtnas.base.groups import Size, size_text
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice, read_size
from mtnas.space.space import Space

KIND = "resolution"
NAME = "input"


def sizes_of(full: Size, fractions: Sequence[float], step: int) -> tuple[Size, ...]:
    """Sizes below the full one in ascending area.

    Height and width are the multiples of `step` nearest to each fraction (a tie goes up), at least one step, at most
    the full length; what equals the full size is left out.

    Args:
        full: height and width in pixels.
        fractions: of the full height and width.
        step: pixels of the image for one position of the network's smallest map.
    """
    found = {(_length(full[0], fraction, step), _length(full[1], fraction, step)) for fraction in fractions}
    return tuple(sorted(found - {full}, key=lambda size: (math.prod(size), size)))


def _length(full: int, fraction: float, step: int) -> int:
    return min(full, max(step, math.floor(fraction * full / step + 0.5) * step))


def size_choice(sizes: Sequence[Size], full: Size, owners: tuple[str, ...], taken: Collection[str]) -> Choice | None:
    """The choice between some sizes and the full one, last; None when there is nothing to choose.

    Args:
        sizes: the smaller ones, in ascending area.
        full: height and width in pixels.
        owners: all tasks.
        taken: names of the other choices.
    """
    if not sizes:
        return None
    name = NAME if NAME not in taken else f"{NAME}/{KIND}"
    return Choice(name, tuple(size_text(size) for size in (*sizes, full)), KIND, owners)


def chosen_size(space: Space, arch: Arch) -> Size | None:
    """The smaller input size of an arch; None for the full one, and where the space has no such choice."""
    for choice in space.choices:
        if choice.kind == KIND and arch[choice.name] != choice.options[-1]:
            return read_size(arch[choice.name])
    return None
