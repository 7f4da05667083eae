"""Selections and slices: closed forms, and everything a user could get wrong."""

from __future__ import annotations

import numpy as np
import pytest

from mtnas.base.errors import SpaceError
from mtnas.base.groups import ChannelGroup, Member, Selection, axis_slices, kept_positions


def plain(name: str, size: int, *members: tuple[str, int, int], frozen: str = "") -> ChannelGroup:
    rows = tuple(Member(m, axis, tuple((offset + u,) for u in range(size)), "out") for m, axis, offset in members)
    return ChannelGroup(name, size, rows, ("a",), frozen)


def test_equal_selections_are_equal_values() -> None:
    assert Selection.of({"b": [2, 0], "a": [1]}) == Selection.of({"a": [1, 1], "b": [0, 2]})
    assert Selection.of({"a": [0]}).id != Selection.of({"a": [1]}).id


def test_prefix_keeps_the_first_units() -> None:
    assert Selection.prefix({"g": 3}).as_dict["g"] == (0, 1, 2)


def test_compact_drops_whole_groups_only() -> None:
    groups = [plain("a", 2), plain("b", 3)]
    assert Selection.of({"a": [0, 1], "b": [0, 2]}).compact(groups) == Selection.of({"b": [0, 2]})


def test_concatenated_axis_keeps_positions_of_no_group() -> None:
    groups = [plain("a", 2, ("w", 1, 0)), plain("b", 3, ("w", 1, 4))]
    slices = axis_slices(groups, Selection.of({"a": [1], "b": [0, 2]}), {"w": (5, 8)})
    assert slices["w"][1].tolist() == [1, 2, 3, 4, 6, 7]


def test_untouched_tensors_are_not_listed() -> None:
    groups = [plain("a", 2, ("w", 0, 0)), plain("b", 2, ("v", 0, 0))]
    assert set(axis_slices(groups, Selection.of({"a": [0], "b": [0, 1]}), {"w": (2,), "v": (2,)})) == {"w"}


def test_units_may_hold_several_positions() -> None:
    member = Member("w", 0, ((0, 2), (1, 3)), "out")
    group = ChannelGroup("g", 2, (member,), ("a",))
    assert kept_positions(group, member, [1]).tolist() == [1, 3]


@pytest.mark.parametrize("kept", [{"nope": [0]}, {"a": []}, {"a": [2]}, {"a": [-1]}, {"cold": [0]}])
def test_wrong_selections_are_refused(kept: dict[str, list[int]]) -> None:
    groups = [plain("a", 2), plain("cold", 2, frozen="is output 'depth'")]
    with pytest.raises(SpaceError, match="selection"):
        Selection.of(kept).check(groups)


def test_json_round_trip() -> None:
    group = ChannelGroup(
        "g", 2, (Member("w", 0, ((0, 2), (1, 3)), "out"), Member("b", 0, ((0,), (1,)), "norm")), ("a", "b")
    )
    assert ChannelGroup.from_json(group.to_json()) == group
    selection = Selection.of({"g": np.array([1])})
    assert Selection.from_json(selection.to_json()) == selection


# --- blocks that are left out -----------------------------------------------------------------------------------------


def test_a_selection_without_skips_is_what_it_was() -> None:
    """Ids and files from before depth still hold."""
    selection = Selection.of({"a": [0, 2]})
    assert selection.to_json() == {"a": [0, 2]} and selection.skipped == ()
    assert selection.id == "5a674a969dd4"


def test_skips_are_part_of_the_value() -> None:
    plain, deep = Selection.of({"a": [0]}), Selection.of({"a": [0]}, ["y", "x", "x"])
    assert deep.skipped == ("x", "y") and deep != plain and deep.id != plain.id
    assert deep.id != Selection.of({"a": [0]}, ["x"]).id
    assert Selection.from_json(deep.to_json()) == deep
    assert Selection.prefix({"a": 1}, ("y", "x")) == deep


def test_groups_inside_skipped_blocks_are_dropped() -> None:
    inner = plain("b.0.conv", 3, ("b.0.conv.weight", 0, 0), ("b.0.last.weight", 1, 0))
    through = plain("stem", 3, ("stem.weight", 0, 0), ("b.0.last.weight", 0, 0))
    other = plain("b.01", 3, ("b.01.weight", 0, 0))
    groups, kept = [inner, through, other], {"b.0.conv": [0], "stem": [1], "b.01": [2]}
    selection = Selection.of(kept, ["b.0"])
    assert [selection.lacks(group) for group in groups] == [True, False, False]
    assert selection.compact(groups) == Selection.of({"stem": [1], "b.01": [2]}, ["b.0"])
    assert selection.widths(groups) == {"b.0.conv": 0, "stem": 1, "b.01": 1}
    assert not any(Selection.of(kept).lacks(group) for group in groups)


def test_only_known_blocks_may_be_left_out() -> None:
    selection = Selection.of({}, ["b.1"])
    selection.check([], ["b.0", "b.1"])
    with pytest.raises(SpaceError, match=r"did you mean 'b\.0'"):
        selection.check([], ["b.0"])
    with pytest.raises(SpaceError, match="a space that has depth"):
        selection.check([])


# --- input size -------------------------------------------------------------------------------------------------------


def test_a_size_is_part_of_the_value() -> None:
    full, small = Selection.of({"a": [0]}, ["x"]), Selection.of({"a": [0]}, ["x"], [48, 64])
    assert small.size == (48, 64) and small != full and small.id != full.id
    assert small.id not in {Selection.of({"a": [0]}, ["x"], (64, 48)).id, Selection.of({"a": [0]}, (), (48, 64)).id}
    assert full.to_json().keys() == {"a", "/skipped"} and small.to_json()["/size"] == [48, 64]
    assert Selection.from_json(small.to_json()) == small == Selection.prefix({"a": 1}, ["x"], (48, 64))


def test_a_size_stays_when_units_change() -> None:
    selection = Selection.of({"a": [0, 1], "b": [1]}, ["x"], (48, 64))
    assert selection.compact([plain("a", 2), plain("b", 2)]) == Selection.of({"b": [1]}, ["x"], (48, 64))
    assert selection.with_kept({"a": [1, 0, 0]}) == Selection.of({"a": [0, 1]}, ["x"], (48, 64))


@pytest.mark.parametrize("size", [(48,), (48, 0), (1, 2, 3)])
def test_a_size_has_height_and_width(size: tuple[int, ...]) -> None:
    with pytest.raises(SpaceError, match="height and width"):
        Selection.of({}, (), size)


def test_only_known_sizes_are_run() -> None:
    selection = Selection.of({}, (), (48, 64))
    selection.check([], (), [(32, 48), (48, 64)])
    with pytest.raises(SpaceError, match="one of 32x48"):
        selection.check([], (), [(32, 48)])
    with pytest.raises(SpaceError, match="a space that has resolution"):
        selection.check([])
