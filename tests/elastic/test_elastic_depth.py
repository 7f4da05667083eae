"""Depth: which blocks are found and which refused, and that a network without blocks is the same however it is made."""

from __future__ import annotations

import copy

import depth_zoo
import numpy as np
import pytest
import torch
import zoo
from torch import Tensor, nn

from mtnas.base.errors import ModelError, SpaceError
from mtnas.base.groups import Selection
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.space.rules import SpaceRules, read_rules

DEEP = SpaceRules(depth=True)


@pytest.fixture(scope="module", params=depth_zoo.BLOCKS)
def named(request: pytest.FixtureRequest) -> tuple[str, ElasticModel]:
    made = make_elastic(depth_zoo.network(request.param), zoo.image(), round_to=4, rules=DEEP)
    made.calibrate_with(lambda: [zoo.image(4, seed=k) for k in range(2)])
    return request.param, made


def random_selection(elastic: ElasticModel, rng: np.random.Generator, number: int) -> Selection:
    """Archs of the space, and arbitrary units with arbitrary blocks, in turn."""
    if number % 2:
        return elastic.selection(elastic.space.sample(rng))
    sizes = {group.name: group.size for group in elastic.groups if group.elastic}
    kept = {n: rng.choice(s, int(rng.integers(1, s + 1)), replace=False) for n, s in sizes.items()}
    return Selection.of(kept, [name for name in elastic.skippable if rng.random() < 0.5])


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert list(a) == list(b)
    return max(float((a[t] - b[t]).detach().abs().max() / b[t].detach().abs().max()) for t in a)


# --- finding ----------------------------------------------------------------------------------------------------------


def test_blocks_and_choices_are_those_of_the_network(named: tuple[str, ElasticModel]) -> None:
    name, elastic = named
    expected = depth_zoo.BLOCKS[name]
    assert elastic.skippable == tuple(block for blocks in expected.values() for block in blocks)
    assert {block.name: block.refused for block in elastic.blocks} == dict.fromkeys(elastic.skippable, "")
    choices = {choice.name: choice for choice in elastic.space.choices if choice.kind == "depth"}
    assert {stage: choice.options for stage, choice in choices.items()} == {
        stage: tuple(range(len(blocks) + 1)) for stage, blocks in expected.items()
    }
    tasks = set(elastic.tasks)
    assert all(set(choice.owners) == tasks for choice in choices.values() if choice.name != "coarse/depth")


def test_a_stage_behind_one_head_only_belongs_to_that_task() -> None:
    elastic = make_elastic(zoo.build("stacked"), zoo.image(), rules=DEEP)
    assert elastic.space.by_name["fine/depth"].owners == ("edges", "segmentation")
    assert elastic.space.by_name["coarse/depth"].owners == ("segmentation",)


def test_depth_keeps_a_prefix() -> None:
    elastic = make_elastic(zoo.build("stacked"), zoo.image(), rules=DEEP)
    largest = elastic.space.largest.as_dict
    for depth, skipped in ((3, ()), (2, ("fine.2",)), (0, ("fine.0", "fine.1", "fine.2"))):
        arch = type(elastic.space.largest).of({**largest, "fine/depth": depth})
        assert elastic.selection(arch) == Selection.of({}, skipped)


def test_without_depth_in_the_rules_nothing_changes() -> None:
    model = zoo.build("stacked")
    shallow, deep = make_elastic(model, zoo.image()), make_elastic(model, zoo.image(), rules=read_rules("depth"))
    assert shallow.blocks == () and not any(choice.kind == "depth" for choice in shallow.space.choices)
    assert deep.space.choices[: len(shallow.space.choices)] == shallow.space.choices
    assert deep.groups == shallow.groups
    with pytest.raises(SpaceError, match="a space that has depth"):
        shallow.run(zoo.image(), Selection.of({}, ["fine.0"]), training=True)


@pytest.mark.parametrize("name", [n for n in zoo.ZOO if n not in depth_zoo.BLOCKS])
def test_networks_without_residual_blocks_offer_none(name: str) -> None:
    assert make_elastic(zoo.build(name), zoo.image(), rules=DEEP, prove=False).blocks == ()


@pytest.mark.parametrize("name", depth_zoo.REFUSED)
def test_look_alikes_are_refused_with_a_reason(name: str) -> None:
    model, image = depth_zoo.refused(name), zoo.image()
    if name in depth_zoo.NAMED_ONLY:
        assert make_elastic(model, image, rules=DEEP).blocks == ()
        elastic = make_elastic(model, image, blocks=["block"])
    else:  # channels of a network that rolls dice cannot be proven
        elastic = make_elastic(model, image, rules=DEEP, prove=name != "stochastic")
    (block,) = elastic.blocks
    assert block.name == "block" and depth_zoo.REFUSED[name][1] in block.refused
    assert elastic.skippable == () and not any(choice.kind == "depth" for choice in elastic.space.choices)
    assert f"stays: {block.refused}" in str(elastic.summary())


def test_named_blocks_are_the_only_ones() -> None:
    model = zoo.build("stacked")
    elastic = make_elastic(model, zoo.image(), blocks=["fine.2", "fine.0"])
    assert [(block.name, block.stage) for block in elastic.blocks] == [
        ("fine.0", "fine/depth"),
        ("fine.2", "fine/depth2"),
    ]
    with pytest.raises(ModelError, match=r"did you mean 'fine\.2'"):
        make_elastic(model, zoo.image(), blocks=["fine.22"])
    nested = make_elastic(
        depth_zoo.Around(nn.Sequential(depth_zoo.Residual())).eval(), zoo.image(), blocks=["block", "block.0"]
    )
    assert {block.name: block.refused for block in nested.blocks} == {
        "block.0": "it lies inside block block",
        "block": "",
    }


# --- running ----------------------------------------------------------------------------------------------------------


def test_extracted_equals_elastic(named: tuple[str, ElasticModel]) -> None:
    _, elastic = named
    rng, image = np.random.default_rng(0), zoo.image(2, seed=5)
    for number in range(24):
        selection = random_selection(elastic, rng, number)
        plain = elastic.extract(selection)
        assert all(isinstance(plain.get_submodule(name), nn.Identity) for name in selection.skipped)
        with torch.no_grad():
            assert largest_difference(elastic.run(image, selection), plain(image)) <= 1e-6


def test_a_skipped_block_returns_its_input(named: tuple[str, ElasticModel]) -> None:
    """The network whose block is replaced by hand is the network that skips it, at the same statistics."""
    _, elastic = named
    image = zoo.image(2, seed=6)
    for name in elastic.skippable:
        replaced = copy.deepcopy(elastic.model)
        replaced.set_submodule(name, nn.Identity())
        with torch.no_grad():
            skipped = elastic.run(image, Selection.of({}, [name]), statistics=elastic.statistics())
            assert largest_difference(skipped, replaced(image)) == 0
            assert largest_difference(skipped, elastic.run(image)) > 1e-3


def test_statistics_are_those_of_the_network_that_is_left(named: tuple[str, ElasticModel]) -> None:
    _, elastic = named
    skipped = elastic.skippable[:1]
    found = elastic.statistics(Selection.of({}, skipped))
    assert found and not any(key.startswith(f"{skipped[0]}.") for key in found)
    assert set(found) == {key for key in elastic.statistics() if not key.startswith(f"{skipped[0]}.")}
    full = elastic.statistics()
    assert any(not torch.allclose(found[key], full[key], rtol=1e-2) for key in found)


def test_groups_inside_a_skipped_block_have_no_say(named: tuple[str, ElasticModel]) -> None:
    """Networks that differ only there are one network, one selection, one id."""
    _, elastic = named
    skipped = elastic.skippable[:1]
    whole = Selection.of({}, skipped)
    inner = [group for group in elastic.groups if whole.lacks(group)]
    assert inner and all(group.name.startswith(skipped[0]) for group in inner)
    narrow = Selection.of({group.name: [0] for group in inner if group.elastic}, skipped)
    assert narrow.compact(elastic.groups) == whole and narrow != whole
    assert set(whole.widths(inner).values()) == {0}


def test_gradients_of_skipped_blocks_are_none_or_zero(named: tuple[str, ElasticModel]) -> None:
    _, elastic = named
    elastic.model.zero_grad(set_to_none=True)
    outputs = elastic.run(zoo.image(4, seed=7), elastic.selection(elastic.space.smallest), training=True)
    torch.stack([output.square().mean() for output in outputs.values()]).sum().backward()
    for name, parameter in elastic.model.named_parameters():
        inside = name.rpartition(".")[0].startswith(elastic.skippable)
        gradient = parameter.grad
        assert (gradient is None) if inside else (gradient is not None and bool(gradient.any()))
    elastic.model.zero_grad(set_to_none=True)


def test_the_network_is_whole_again_after_an_error(named: tuple[str, ElasticModel]) -> None:
    _, elastic = named
    image = zoo.image(2)
    with torch.no_grad():
        before = elastic.run(image)
        with pytest.raises(RuntimeError):
            elastic.run(image[:, :2], Selection.of({}, elastic.skippable), training=True)
        assert largest_difference(elastic.run(image), before) == 0
    assert not any("forward" in layer.__dict__ for layer in elastic.model.modules())


def test_sorting_keeps_the_function_at_every_depth() -> None:
    image = zoo.image(2, seed=8)
    made = make_elastic(zoo.build("stacked"), zoo.image(), round_to=4, rules=DEEP)
    made.calibrate_with(lambda: [zoo.image(4)])
    selection = Selection.of({}, ("coarse.1", "fine.2"))
    with torch.no_grad():
        before = made.run(image, selection)
        made.sort_channels()
        assert largest_difference(made.run(image, selection), before) <= 1e-5


def test_the_summary_counts_the_shallowest_network() -> None:
    deep = make_elastic(zoo.build("stacked"), zoo.image(), rules=DEEP)
    wide = make_elastic(zoo.build("stacked"), zoo.image())
    summary = deep.summary()
    assert summary.largest == wide.summary().largest
    assert summary.smallest.macs < wide.summary().smallest.macs
    assert [block["name"] for block in summary.to_json()["blocks"]] == list(deep.skippable)
    assert "fine/depth" in str(summary)


def test_unknown_blocks_are_refused() -> None:
    elastic = make_elastic(zoo.build("stacked"), zoo.image(), rules=DEEP)
    with pytest.raises(SpaceError, match=r"did you mean 'fine\.\d'"):
        elastic.extract(Selection.of({}, ["fine.9"]), statistics={})
