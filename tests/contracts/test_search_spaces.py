"""Every shipped search space loads, says what it is for, and is told of in the README."""

from __future__ import annotations

import pytest

from mtnas.base.resources import resource_folder
from mtnas.space.rules import SpaceRules, read_rules, shipped_rules

NAMES = shipped_rules()


def test_the_default_is_shipped_and_equals_the_built_in_rules() -> None:
    rules = read_rules("default")
    built_in = SpaceRules()
    assert (rules.shared, rules.decoder, rules.overrides) == (built_in.shared, built_in.decoder, built_in.overrides)
    assert (rules.min_channels, rules.round_to) == (built_in.min_channels, built_in.round_to)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_space_loads(name: str) -> None:
    rules = read_rules(name)
    assert rules.description
    assert SpaceRules.from_json(rules.to_json()) == rules
    for size in (1, 8, 24, 64, 512):
        options = rules.options("layer", size, owners=2, round_to=8)
        assert options[-1] == size and list(options) == sorted(set(options))


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_space_is_in_the_readme(name: str) -> None:
    assert f"| `{name}` |" in (resource_folder("search_spaces") / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_space_leaves_something_to_choose(name: str) -> None:
    rules = read_rules(name)
    assert max(len(rules.options("layer", 64, owners=owners, round_to=8)) for owners in (1, 2)) > 1
