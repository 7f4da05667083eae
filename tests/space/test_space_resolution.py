"""The input size as a choice: closed forms of the sizes, names of the options, and the size of an arch."""

from __future__ import annotations

import pytest

from mtnas.base.errors import SpaceError
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice, read_size
from mtnas.space.resolution import chosen_size, size_choice, sizes_of
from mtnas.space.space import Space


@pytest.mark.parametrize(
    ("full", "fractions", "step", "expected"),
    [
        ((64, 96), (0.5, 0.75, 1.0), 8, ((32, 48), (48, 72))),
        ((64, 96), (0.5, 0.75, 1.0), 16, ((32, 48), (48, 80))),  # 4.5 steps of 16 are 5
        ((64, 64), (0.5, 0.75), 32, ((32, 32),)),  # a tie goes up, and 64x64 is the full size
        ((60, 90), (0.1, 0.6), 32, ((32, 32), (32, 64))),  # never below one step
        ((40, 40), (0.9,), 32, ((32, 32),)),
        ((24, 96), (0.9,), 32, ()),  # one step is more than the height: it stays
        ((64, 64), (1.0,), 8, ()),
        ((64, 64), (0.49, 0.5, 0.51), 16, ((32, 32),)),
    ],
)
def test_sizes_are_the_nearest_multiples(
    full: tuple[int, int], fractions: tuple[float, ...], step: int, expected: tuple[tuple[int, int], ...]
) -> None:
    assert sizes_of(full, fractions, step) == expected


def test_the_choice_ends_with_the_full_size() -> None:
    choice = size_choice(((32, 48), (48, 80)), (64, 96), ("a", "b"), ["stem"])
    assert choice == Choice("input", ("32x48", "48x80", "64x96"), "resolution", ("a", "b"))
    assert size_choice((), (64, 96), ("a",), []) is None
    other = size_choice(((32, 48),), (64, 96), ("a",), ["input"])  # a layer of this name
    assert other is not None and other.name == "input/resolution"


def test_the_size_of_an_arch() -> None:
    choice = Choice("input", ("32x48", "64x96"), "resolution")
    space = Space((Choice("stem", (8, 16)), choice))
    assert chosen_size(space, space.smallest) == (32, 48)
    assert chosen_size(space, space.largest) is None
    assert chosen_size(Space((Choice("stem", (8, 16)),)), Arch.of({"stem": 8})) is None
    assert Space.from_json(space.to_json()) == space


@pytest.mark.parametrize("text", ["48", "48x", "x64", "48x64x3", "0x64", "-1x64", "4.5x6", 48])
def test_sizes_that_cannot_be_read(text: str | int) -> None:
    with pytest.raises(SpaceError, match="such as 48x64"):
        read_size(text)
