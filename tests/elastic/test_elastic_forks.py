"""Forks: which are found and refused, and that a network with one option chosen is the same however it is made."""

from __future__ import annotations

import copy
from collections.abc import Callable

import fork_zoo
import numpy as np
import pytest
import torch
import zoo
from fork_zoo import Forked, bottleneck
from torch import Tensor, nn

import mtnas
from mtnas.base.errors import ModelError, SpaceError
from mtnas.base.groups import Selection
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.space.rules import SpaceRules, read_rules

FREE = SpaceRules(depth=True, operators=True, experts=True)


def elastic_of(model: nn.Module, rules: SpaceRules = FREE) -> ElasticModel:
    made = make_elastic(model, zoo.image(), round_to=4, rules=rules)
    made.calibrate_with(lambda: [zoo.image(4, seed=k) for k in range(2)])
    return made


@pytest.fixture(scope="module", params=fork_zoo.ZOO)
def named(request: pytest.FixtureRequest) -> tuple[str, ElasticModel]:
    return request.param, elastic_of(fork_zoo.network(request.param))


def random_selection(elastic: ElasticModel, rng: np.random.Generator, number: int) -> Selection:
    """Archs of the space, and arbitrary units with arbitrary blocks and options, in turn."""
    if number % 2:
        return elastic.selection(elastic.space.sample(rng))
    sizes = {group.name: group.size for group in elastic.groups if group.elastic}
    kept = {n: rng.choice(s, int(rng.integers(1, s + 1)), replace=False) for n, s in sizes.items()}
    chosen = {fork.name: str(rng.choice(list(fork.options))) for fork in elastic.open_forks}
    return Selection.of(kept, [name for name in elastic.skippable if rng.random() < 0.3], chosen=chosen)


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert list(a) == list(b)
    return max(float((a[t] - b[t]).detach().abs().max() / b[t].detach().abs().max()) for t in a)


# --- the modules ------------------------------------------------------------------------------------------------------


def test_plain_modules_run_their_default() -> None:
    one, two = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(mtnas.OneOf({"one": one, "two": two})(x), two(x))
    assert torch.equal(mtnas.OneOf({"one": one, "two": two}, default="one")(x), one(x))
    both = mtnas.SumOf([one, two])
    assert torch.allclose(both(x), one(x) + two(x)) and torch.equal(both.way("1")(x), one(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mtnas.OneOf({}), "at least one nn.Module"),
        (lambda: mtnas.OneOf({"a": torch.relu}), "received: .*builtin_function"),  # type: ignore[dict-item]
        (lambda: mtnas.OneOf({"a.b": nn.ReLU()}), "without a dot"),
        (lambda: mtnas.OneOf({"keys": nn.ReLU()}), "no method of a dict"),
        (lambda: mtnas.OneOf({"a": nn.ReLU()}, default="b"), r"one of \['a'\]"),
        (lambda: mtnas.SumOf([]), "received: none"),
        (lambda: mtnas.SumOf([(act := nn.ReLU()), act]), "the same module twice"),
    ],
)
def test_impossible_forks_say_what_is_wrong(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make()


# --- finding ----------------------------------------------------------------------------------------------------------


def test_forks_and_choices_are_those_of_the_network(named: tuple[str, ElasticModel]) -> None:
    name, elastic = named
    assert {fork.name: fork.options for fork in elastic.open_forks} == fork_zoo.FORKS[name]
    assert elastic.open_forks == elastic.forks
    for fork in elastic.forks:
        assert list(fork.macs) == sorted(fork.macs)
        choice = elastic.space.by_name[fork.choice]
        assert (choice.kind, choice.owners) == (fork.kind, fork.owners)
        assert tuple(str(option) for option in choice.options) == fork.options
        assert f"{fork.kind}: {fork.options[0]} (" in str(elastic.summary())
    assert elastic.selection(elastic.space.largest) == Selection(())


def test_owners_are_the_tasks_behind_the_fork() -> None:
    elastic = elastic_of(fork_zoo.network("decoder"))
    owners = {fork.name: fork.owners for fork in elastic.forks}
    assert owners == {"middle.depthwise": ("depth", "labels"), "depth.last": ("depth",), "labels.0": ("labels",)}


def test_what_is_found_does_not_depend_on_who_asks() -> None:
    """Owners are told by gradients, also for a caller who wants none."""
    rules = SpaceRules(depth=True, operators=True, experts=True)
    given = fork_zoo.network("decoder"), zoo.image(1)
    expected = make_elastic(*given, round_to=4, rules=rules)
    with torch.no_grad():
        found = make_elastic(*given, round_to=4, rules=rules)
    assert found.space == expected.space and found.forks == expected.forks and found.groups == expected.groups


def test_the_multiply_adds_of_an_option_are_the_closed_form() -> None:
    elastic = elastic_of(fork_zoo.network("kernels"))
    assert elastic.forks[0].macs == tuple(24 * k * k * 16 * 16 for k in (3, 5, 7))
    elastic = elastic_of(fork_zoo.network("experts"))
    one, two, three = (16 * 16 + 9 * 16 * 16) * 256, (16 * 8 + 9 * 8 * 16) * 256 + 16, (16 * 12 + 9 * 12 * 16) * 256
    assert elastic.forks[0].macs == (one, one + two, one + two + three)


def test_a_fork_of_residual_blocks_may_be_left_out_itself() -> None:
    elastic = elastic_of(fork_zoo.network("blocks"))
    assert elastic.skippable == ("middle.1",)
    named = make_elastic(fork_zoo.network("blocks"), zoo.image(), rules=FREE, blocks=["middle.1.options.one"])
    assert "it lies inside option middle.1.options.one" in named.blocks[0].refused


def test_rules_without_operators_keep_the_default_alone() -> None:
    """What cannot be reached is not there: no weights, no choice; the summary says so."""
    model = fork_zoo.network("nested")
    model.get_submodule("middle.0").default = "sum"
    elastic = elastic_of(model, SpaceRules())
    told = {fork.name: fork.refused for fork in elastic.forks}
    assert "operators: true" in told["middle.0"] and "experts: true" in told["middle.0.options.sum"] and len(told) == 2
    assert elastic.open_forks == () and {choice.kind for choice in elastic.space.choices} == {"width"}
    assert not any("options.fork" in name for name in elastic.state())
    assert "stays sum: the rules of the space do not say operators: true" in str(elastic.summary())
    with torch.no_grad():
        assert largest_difference(elastic.run(zoo.image()), model(zoo.image())) == 0
    with pytest.raises(SpaceError, match="operators, experts"):
        elastic.run(zoo.image(), Selection.of({}, chosen={"middle.0": "sum"}), training=True)


def test_shipped_rules_switch_forks_on() -> None:
    assert read_rules("operators").operators and read_rules("operators").experts
    assert not read_rules("default").operators and not read_rules("depth").experts


class Twice(Forked):
    def __init__(self) -> None:
        super().__init__(mtnas.OneOf({"a": bottleneck(16, 8), "b": bottleneck(16, 16)}))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.middle(self.middle(self.stem(image)))
        return {"depth": self.depth(x), "labels": self.labels(x)}


class Idle(Forked):
    def __init__(self) -> None:
        super().__init__(nn.Identity())
        self.idle = mtnas.OneOf({"a": nn.Conv2d(3, 3, 1), "b": nn.Conv2d(3, 3, 3)})


class ReadFromOutside(Forked):
    def __init__(self) -> None:
        super().__init__(mtnas.OneOf({"a": bottleneck(16, 8), "b": bottleneck(16, 16)}))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.middle(self.stem(image)) * self.middle.options["b"][0][0].weight.mean()  # type: ignore[index,union-attr]
        return {"depth": self.depth(x), "labels": self.labels(x)}


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = zoo.conv_bn(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.relu_())


def pooled(fork: nn.Module) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(2), fork)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "twice": (Twice, "it runs 2 times"),
    "idle": (Idle, "it does not run"),
    "in_place": (
        lambda: Forked(pooled(mtnas.OneOf({"a": zoo.conv_bn(16, 16), "b": InPlace()}))),
        "b changes its input",
    ),
    "read_from_outside": (ReadFromOutside, "choosing a breaks the forward"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_chosen_keeps_its_default_and_says_why(name: str) -> None:
    model = REFUSED[name][0]().eval()
    elastic = elastic_of(model)
    (fork,) = elastic.forks
    assert REFUSED[name][1] in fork.refused and fork.options == ("b",)
    assert elastic.open_forks == () and f"stays b: {fork.refused}" in str(elastic.summary())
    assert not any("options.a" in key for key in elastic.state())
    image = zoo.image(2, seed=3)
    with torch.no_grad():
        assert largest_difference(elastic.run(image), model(image)) <= 1e-6
        chosen = elastic.selection(elastic.space.smallest)
        assert largest_difference(elastic.run(image, chosen), elastic.extract(chosen)(image)) <= 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"a": zoo.conv_bn(16, 16), "odd": zoo.conv_bn(16, 8)},
            r"option 'odd': shape \(2, 16, 16, 16\), as opt",
        ),
        ({"a": zoo.conv_bn(16, 16), "odd": zoo.conv_bn(16, 16, 3, 2)}, r"option 'odd'(.|\n)*shape \(2, 16, 8, 8\)"),
        ({"a": zoo.conv_bn(16, 16), "odd": zoo.conv_bn(8, 16)}, "option 'odd': an option that takes"),
        ({"a": zoo.conv_bn(16, 16), "odd": nn.MaxPool2d(1, return_indices=True)}, "option 'odd': one tensor"),
    ],
)
def test_options_that_do_not_fit_are_errors_with_their_name(options: dict[str, nn.Module], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        elastic_of(Forked(mtnas.OneOf(options)).eval())


def test_branches_that_give_other_names_are_errors() -> None:
    branches = nn.ModuleList([fork_zoo.Reads(8), fork_zoo.Reads(8), nn.Conv2d(16, 8, 1)])
    x, several = torch.randn(1, 16, 4, 4), mtnas.SumOf(branches[:2])
    both = [branch(x) for branch in branches[:2]]
    for found in (several(x), several.everything(x)):
        assert all(torch.allclose(found[task], both[0][task] + both[1][task]) for task in ("depth", "labels"))
    del branches[1].reads["depth"]
    with pytest.raises(ModelError, match=r"option '2': labels of shape \(1, 8, 4, 4\), depth of shape"):
        several.everything(x)
    with pytest.raises(ModelError, match="option '2'"):
        mtnas.SumOf([branches[0], branches[2]]).everything(x)


def test_the_default_is_the_option_with_the_most_work() -> None:
    """Whatever the module names: it belongs to the largest network; the caller's model keeps its own."""
    model = fork_zoo.network("kernels")
    fork = model.get_submodule("middle.0.depthwise")
    assert fork.default == "k5"
    elastic = elastic_of(model)
    assert elastic.model.get_submodule("middle.0.depthwise").default == "k7" and fork.default == "k5"
    image = zoo.image()
    with torch.no_grad():
        assert largest_difference(elastic.run(image), elastic.model(image)) == 0


# --- running ----------------------------------------------------------------------------------------------------------


def test_extracted_equals_elastic(named: tuple[str, ElasticModel]) -> None:
    _, elastic = named
    rng, image = np.random.default_rng(0), zoo.image(2, seed=5)
    for number in range(24):
        selection = random_selection(elastic, rng, number)
        plain = elastic.extract(selection)
        with torch.no_grad():
            assert largest_difference(elastic.run(image, selection), plain(image)) <= 1e-6


def test_an_option_is_the_network_that_holds_it_alone(named: tuple[str, ElasticModel]) -> None:
    """Every option by hand: a copy whose fork is that option gives the same numbers at the same statistics."""
    name, elastic = named
    image = zoo.image(2, seed=6)
    state = elastic.model.state_dict()
    for fork in (fork for fork in elastic.open_forks if not fork.needs):
        for option in fork.options:
            selection = Selection.of({}, chosen={fork.name: option})
            by_hand = copy.deepcopy(elastic.model)
            module = by_hand.get_submodule(fork.name)
            if fork.kind == "operator":
                by_hand.set_submodule(fork.name, module.options[option])
            else:
                by_hand.set_submodule(fork.name, mtnas.SumOf(list(module.branches)[: int(option)]))
            keys = elastic.statistics(selection)
            with torch.no_grad():
                found = elastic.run(image, selection, statistics={key: state[key] for key in keys})
                assert largest_difference(found, by_hand.eval()(image)) <= 1e-6
                if option != fork.default:
                    assert largest_difference(found, elastic.model(image)) > 1e-3, (name, option)


def test_the_extracted_module_holds_only_what_is_chosen(named: tuple[str, ElasticModel]) -> None:
    _, elastic = named
    full = elastic.state()
    for fork in elastic.open_forks:
        outer = {need.fork: need.options[-1] for need in fork.needs}
        for option in fork.options:
            state = elastic.extract(Selection.of({}, chosen={**outer, fork.name: option})).state_dict()
            assert set(state) <= set(full)
            inside = {key for key in full if key.startswith(f"{fork.name}.")}
            gone = {key for key in inside if any(key.startswith(f"{part}.") for part in fork.without(option))}
            deeper = tuple(f"{inner.name}." for inner in elastic.open_forks if inner.name.startswith(f"{fork.name}."))
            assert not gone & set(state)
            assert {key for key in inside - gone if not key.startswith(deeper)} <= set(state)


def test_statistics_are_those_of_what_runs(named: tuple[str, ElasticModel]) -> None:
    _, elastic = named
    for fork in elastic.open_forks:
        outer = {need.fork: need.options[-1] for need in fork.needs}
        for option in fork.options:
            found = elastic.statistics(Selection.of({}, chosen={**outer, fork.name: option}))
            assert found and not any(key.startswith(f"{part}.") for part in fork.without(option) for key in found)


def test_selections_of_one_network_are_one_value() -> None:
    elastic = elastic_of(fork_zoo.network("nested"))
    forks, groups = elastic.open_forks, elastic.groups

    def compact(**chosen: str) -> dict[str, str]:
        names = {"outer": "middle.0", "inner": "middle.0.options.fork.0", "sum": "middle.0.options.sum"}
        selection = Selection.of({}, chosen={names[key]: option for key, option in chosen.items()})
        return dict(selection.compact(groups, forks).chosen)

    assert compact(outer="fork") == {} and compact(outer="fork", inner="b") == {}
    assert compact(inner="a") == {"middle.0.options.fork.0": "a"}
    assert compact(outer="none", inner="a", sum="1") == {"middle.0": "none"}  # neither of the inner forks runs
    assert compact(outer="sum", inner="a", sum="1") == {"middle.0": "sum", "middle.0.options.sum": "1"}
    narrow = Selection.of({"middle.0.options.sum.branches.1.0.0": [0]}, chosen={"middle.0": "sum"})
    assert narrow.compact(groups, forks) == narrow
    alone = Selection.of(dict(narrow.kept), chosen={"middle.0": "sum", "middle.0.options.sum": "1"})
    assert alone.compact(groups, forks).kept == () and not alone.lacks(groups[0])
    assert narrow.with_kept({}).compact(groups).kept == ()
    assert Selection.of(dict(narrow.kept)).compact(groups).kept == ()  # the default option holds no such group
    assert alone.widths(groups)["middle.0.options.sum.branches.1.0.0"] == 0


def test_a_fork_in_a_skipped_block_has_no_say() -> None:
    elastic = elastic_of(fork_zoo.network("kernels"))
    skipped = Selection.of({}, ["middle.1"], chosen={"middle.1.depthwise": "k3", "middle.0.depthwise": "k3"})
    assert skipped.compact(elastic.groups, elastic.open_forks).chosen == (("middle.0.depthwise", "k3"),)
    assert isinstance(elastic.extract(skipped).get_submodule("middle.1"), nn.Identity)
    by_blocks = elastic_of(fork_zoo.network("blocks"))
    both = Selection.of({}, ["middle.1"], chosen={"middle.1": "one"})
    assert both.compact(by_blocks.groups, by_blocks.open_forks) == Selection.of({}, ["middle.1"])


def test_gradients_reach_what_is_chosen_alone(named: tuple[str, ElasticModel]) -> None:
    _, elastic = named
    selection = elastic.selection(elastic.space.smallest)
    held = set(elastic.extract(selection).state_dict())
    elastic.model.zero_grad(set_to_none=True)
    outputs = elastic.run(zoo.image(4, seed=7), selection, training=True)
    torch.stack([output.square().mean() for output in outputs.values()]).sum().backward()
    for name, parameter in elastic.model.named_parameters():
        assert (parameter.grad is not None) == (name in held), name


def test_wrong_options_are_errors_with_a_cure() -> None:
    elastic = elastic_of(fork_zoo.network("kernels"))
    for chosen, message in (
        ({"middle.0.depthwis": "k3"}, r"did you mean 'middle\.0\.depthwise'"),
        ({"middle.0.depthwise": "k33"}, "did you mean 'k3'"),
    ):
        with pytest.raises(SpaceError, match=message):
            elastic.run(zoo.image(), Selection.of({}, chosen=chosen), training=True)


def test_after_a_call_the_network_is_whole_again(named: tuple[str, ElasticModel]) -> None:
    _, elastic = named
    image = zoo.image(2, seed=8)
    with torch.no_grad():
        before = elastic.run(image)
        for number in range(4):
            elastic.run(image, random_selection(elastic, np.random.default_rng(number), 2))
        assert largest_difference(elastic.run(image), before) == 0
    assert not any("forward" in module.__dict__ for module in elastic.model.modules())
