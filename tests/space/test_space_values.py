"""Choice, Arch and Space as values: ids, order, encoding, refusals."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtnas.base.errors import SpaceError
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice
from mtnas.space.space import Space

SPACE = Space(
    (
        Choice("stem", (8, 16, 24), "width", ("a", "b")),
        Choice("op", ("full", "depthwise"), "operator", ("a", "b")),
        Choice("blocks", (1, 2), "depth", ("a",)),
        Choice("fixed", (4,)),
    )
)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    counts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    return Space(tuple(Choice(f"c{i}", tuple(range(8, 8 * n + 8, 8))) for i, n in enumerate(counts)))


@given(spaces(), st.integers(0, 2**32))
def test_encode_decode_and_json_round_trips(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    archs = [space.sample(rng) for _ in range(5)]
    assert space.decode(space.encode(archs)) == archs
    for arch in archs:
        space.check(arch)
        back = Arch.from_json(json.loads(json.dumps(arch.to_json())))
        assert back == arch and back.id == arch.id and hash(back) == hash(arch)
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space and again.id == space.id


@given(spaces(), st.integers(0, 2**32))
def test_neighbours_differ_by_one_step_and_know_each_other(space: Space, seed: int) -> None:
    arch = space.sample(np.random.default_rng(seed))
    for other in space.neighbours(arch):
        assert np.abs(space.encode([other]) - space.encode([arch])).sum() == 1
        assert arch in set(space.neighbours(other))


def test_operators_are_all_one_step_from_each_other() -> None:
    space = Space((Choice("op", ("a", "b", "c", "d"), "operator"), Choice("experts", (1, 2, 4), "experts")))
    found = {tuple(arch.as_dict.values()) for arch in space.neighbours(Arch.of({"op": "d", "experts": 1}))}
    assert found == {("a", 1), ("b", 1), ("c", 1), ("d", 2)}


def test_extremes_size_and_one_hot() -> None:
    assert SPACE.largest.as_dict == {"stem": 24, "op": "depthwise", "blocks": 2, "fixed": 4}
    assert SPACE.smallest.as_dict == {"stem": 8, "op": "full", "blocks": 1, "fixed": 4}
    assert 10**SPACE.log10_size == pytest.approx(12)
    assert SPACE.one_hot([SPACE.largest]).tolist() == [[0, 0, 1, 0, 1, 0, 1, 1]]
    assert Space(()).one_hot([Arch(())]).shape == (1, 0)


def test_id_ignores_order_and_is_the_same_in_another_process() -> None:
    arch = Arch.of({"a": 1, "b": "x"})
    assert Arch.of({"b": "x", "a": 1}).id == arch.id != Arch.of({"a": 2, "b": "x"}).id
    code = "from mtnas.space.arch import Arch; print(Arch.of({'b': 'x', 'a': 1}).id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == arch.id


def test_fixed_choices_keep_their_place() -> None:
    held = SPACE.with_fixed({"stem": 16})
    assert held.by_name["stem"].options == (16,) and [c.name for c in held.choices] == [c.name for c in SPACE.choices]
    assert held.id != SPACE.id
    with pytest.raises(SpaceError, match="sten"):
        SPACE.with_fixed({"sten": 16})
    with pytest.raises(SpaceError, match="17"):
        SPACE.with_fixed({"stem": 17})


@pytest.mark.parametrize(
    ("arch", "text"),
    [
        ({"stem": 8, "op": "full", "blocks": 1}, "none for fixed"),
        ({"stem": 9, "op": "full", "blocks": 1, "fixed": 4}, "choice stem"),
        ({"stem": 8, "op": "full", "blocks": 1, "fixed": 4, "more": 1}, "more"),
    ],
)
def test_check_names_what_does_not_fit(arch: dict[str, int | str], text: str) -> None:
    with pytest.raises(SpaceError, match=text):
        SPACE.check(Arch.of(arch))


def test_an_unknown_choice_of_an_arch() -> None:
    with pytest.raises(SpaceError, match="stam"):
        SPACE.largest["stam"]


@pytest.mark.parametrize("row", [[3, 0, 0, 0], [-1, 0, 0, 0], [0, 0, 0]])
def test_decode_refuses_what_is_outside(row: list[int]) -> None:
    with pytest.raises(SpaceError, match="decode"):
        SPACE.decode(np.array([row]))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ((), "width"),
        ((8, 8), "width"),
        ((16, 8), "width"),
        ((8, 16), "wideness"),
        (("32x32", "16x24"), "resolution"),
    ],
)
def test_choices_that_make_no_sense(options: tuple[int | str, ...], kind: str) -> None:
    with pytest.raises(SpaceError, match="choice x"):
        Choice("x", options, kind)


def test_two_choices_of_one_name() -> None:
    with pytest.raises(SpaceError, match="different names"):
        Space((Choice("a", (1,)), Choice("a", (2,))))


def test_sampling_reaches_every_arch() -> None:
    rng = np.random.default_rng(0)
    assert len({SPACE.sample(rng) for _ in range(300)}) == 12
