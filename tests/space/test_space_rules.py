"""Width rules: rounding, floors, overrides, and messages for wrong files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtnas.base.errors import SpaceError
from mtnas.space.rules import Override, SpaceRules, read_rules

ratios = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6).map(tuple)


def test_default_options_are_quarters() -> None:
    assert SpaceRules().options("conv", 64, 2, 8) == (16, 32, 48, 64)


@pytest.mark.parametrize(
    ("size", "round_to", "expected"),
    [
        (32, 16, (16, 32)),  # 8 -> 16 (tie goes up), 16, 24 -> 32
        (20, 8, (8, 16, 20)),  # the full width need not be a multiple
        (8, 8, (8,)),
        (4, 8, (4,)),  # narrower than one step: nothing to choose
        (1, 1, (1,)),
        (24, 1, (8, 12, 18, 24)),  # min_channels holds where the step does not
    ],
)
def test_rounding_by_hand(size: int, round_to: int, expected: tuple[int, ...]) -> None:
    assert SpaceRules().options("conv", size, 2, round_to) == expected


def test_min_channels_is_rounded_up_to_the_step() -> None:
    assert SpaceRules(min_channels=12).options("conv", 64, 2, 8) == (16, 32, 48, 64)


def test_rules_own_step_goes_before_the_callers() -> None:
    assert SpaceRules(round_to=16).options("conv", 48, 2, 8) == (16, 32, 48)


def test_shared_and_decoder_groups_have_their_own_ratios() -> None:
    rules = SpaceRules(shared=(0.5, 1.0), decoder=(0.25, 1.0))
    assert rules.options("a", 64, 3, 8) == (32, 64)
    assert rules.options("a", 64, 1, 8) == (16, 64)


def test_first_matching_override_wins() -> None:
    rules = SpaceRules(overrides=(Override("encoder.stem*", (1.0,)), Override("encoder.*", (0.5,))))
    assert rules.options("encoder.stem.conv", 64, 2, 8) == (64,)
    assert rules.options("encoder.layer1", 64, 2, 8) == (32, 64)
    assert rules.options("heads.depth", 64, 1, 8) == (16, 32, 48, 64)


@given(ratios, st.integers(1, 600), st.sampled_from([1, 4, 8, 16, 32]), st.integers(1, 64))
def test_options_are_ascending_aligned_and_end_at_full_size(
    fractions: tuple[float, ...], size: int, round_to: int, min_channels: int
) -> None:
    options = SpaceRules(shared=fractions, min_channels=min_channels).options("g", size, 2, round_to)
    assert options[-1] == size
    assert list(options) == sorted(set(options))
    assert options[0] >= min(size, max(min_channels, round_to))
    assert all(width % round_to == 0 for width in options[:-1])


def test_json_round_trip() -> None:
    rules = SpaceRules(overrides=(Override("a*", (0.5, 1.0)),), round_to=4, description="x")
    assert SpaceRules.from_json(rules.to_json()) == rules


def test_depth_is_off_until_asked_for(tmp_path: Path) -> None:
    assert not SpaceRules().depth and not read_rules("default").depth and read_rules("depth").depth
    path = tmp_path / "deep.yaml"
    path.write_text("depth: true\n", encoding="utf-8")
    assert read_rules(path) == SpaceRules(depth=True) == SpaceRules.from_json(SpaceRules(depth=True).to_json())


def test_reading_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("decoder: [1, 0.5]\noverrides:\n  - {groups: 'stem*', ratios: [1.0]}\n", encoding="utf-8")
    rules = read_rules(path)
    assert rules.decoder == (0.5, 1.0)
    assert rules.overrides == (Override("stem*", (1.0,)),)
    assert rules.min_channels == SpaceRules().min_channels


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("decodr: [0.5]", ["decodr", "did you mean 'decoder'?"]),
        ("overrides: [{group: a, ratios: [1.0]}]", ["overrides[0]", "did you mean 'groups'?"]),
        ("overrides: [{groups: a}]", ["overrides[0]", "both groups"]),
        ("overrides: stem", ["overrides", "a list of"]),
        ("shared: [0.5, 1.5]", ["shared", "[0.5, 1.5]"]),
        ("shared: [0]", ["shared", "above 0"]),
        ("shared: []", ["shared"]),
        ("shared: '0.5'", ["shared"]),
        ("shared: [true]", ["shared"]),
        ("min_channels: 0", ["min_channels", "at least 1"]),
        ("round_to: 2.5", ["round_to", "2.5"]),
        ("depth: 2", ["depth", "true or false"]),
        ("resolution: 0.5", ["resolution", "a list of fractions"]),
        ("resolution: [0.5, 2]", ["resolution", "at most 1"]),
        ("- a", ["keys out of"]),
        ("", ["keys out of"]),
        ("a: [", ["valid YAML"]),
    ],
)
def test_wrong_files_say_where_and_what(tmp_path: Path, text: str, pieces: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpaceError) as caught:
        read_rules(path)
    assert str(path) in str(caught.value)
    for piece in pieces:
        assert piece in str(caught.value)


def test_unknown_name_and_missing_file() -> None:
    with pytest.raises(SpaceError, match="did you mean 'default'"):
        read_rules("defalt")
    with pytest.raises(SpaceError, match=r"nowhere\.yaml"):
        read_rules("nowhere.yaml")
    with pytest.raises(SpaceError, match=r"folder/default"):
        read_rules("folder/default")
