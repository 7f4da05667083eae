"""The proof of forks: every option runs, alone and beside others, in few networks; and the guilty fork is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fork_zoo
import numpy as np
import pytest
import torch
import zoo
from fork_zoo import Kernels
from torch import Tensor, nn

import mtnas
from mtnas.base.forks import EXPERTS, OPERATOR, Fork, needs_of
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.fork_proof import prove_forks, together
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.elastic.structure import find_structure
from mtnas.space.rules import SpaceRules

FREE = SpaceRules(operators=True, experts=True)
READ = "leaves another network than it runs: something outside reads its options"


def elastic_of(model: nn.Module) -> ElasticModel:
    return make_elastic(model.eval(), zoo.image(), round_to=4, rules=FREE)


class Row(nn.Module):
    """Blocks with a choice of kernels, one after another; `spoil` sees them and what comes out."""

    def __init__(self, blocks: int, spoil: Callable[[list[Any], Tensor], Tensor] = lambda forks, x: x) -> None:
        super().__init__()
        self.stem = nn.Sequential(zoo.conv_bn(3, 16, 3, 2), nn.ReLU())
        self.blocks = nn.ModuleList(Kernels() for _ in range(blocks))
        self.depth, self.spoil = nn.Conv2d(16, 1, 1), spoil

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        for block in self.blocks:
            x = block(x)
        return {"depth": self.spoil([block.depthwise for block in self.blocks], self.depth(x))}


def made(name: str, kind: str, options: str) -> Fork:
    parts = tuple(f"{name}.{option}" for option in options)
    return Fork(name, kind, tuple(options), parts)


def test_options_of_all_forks_take_turns_together() -> None:
    """Each option runs once at least, wherever it lies, and is drawn beside many others."""
    rows = [made("a", OPERATOR, "xyz"), made("a.x.b", OPERATOR, "pqrs"), made("a.x.b.q.c", EXPERTS, "123")]
    rows += [made("a.z.d", EXPERTS, "1234"), *(made(f"e{number}", OPERATOR, "xy") for number in range(40))]
    forks = [Fork(f.name, f.kind, f.options, f.parts, needs=needs_of([f.name], rows)) for f in rows]
    drawn = list(together(forks, np.random.default_rng(0)))
    assert all(list(chosen) == [fork.name for fork in forks] for chosen in drawn)
    ran = {(f.name, chosen[f.name]) for chosen in drawn for f in forks if all(need.met(chosen) for need in f.needs)}
    assert ran == {(fork.name, option) for fork in forks for option in fork.options}
    # One of `a` leads to the four of `b`, one of those to the three of `c`, another to the four of `d`.
    assert len(drawn) <= 1 + (4 - 1) + 3 + 4
    first = [[chosen[f"e{number}"] for number in range(40)] for chosen in drawn[:1]]
    assert {"x", "y"} == {*first[0]}


@pytest.mark.parametrize("blocks", [2, 6])
def test_a_proof_runs_each_option_alone_once_and_few_networks_together(blocks: int) -> None:
    """Each network runs twice: as a part of the whole, and taken out."""
    runs = 0

    def count(forks: list[Any], x: Tensor) -> Tensor:
        nonlocal runs
        runs += 1
        return x

    network = Row(blocks, count).eval()
    structure = find_structure(network, zoo.image(), frozenset(), FREE, prove=True)
    runs = 0
    assert prove_forks(network, structure, zoo.image()) == {}
    alone, beside, around = 1 + 2 * blocks, 3, 2  # the default network, and two kernels of each; drawn; shapes, sizes
    assert runs == 2 * (alone + beside) + around


def test_the_guilty_are_found_among_many_and_the_others_stand() -> None:
    def spoil(forks: list[Any], x: Tensor) -> Tensor:
        scale = 1.5 if forks[1].default == "k3" else 1.0
        return x * scale * forks[3].options["k7"][0].weight.mean()

    elastic = elastic_of(Row(5, spoil))
    refused = {fork.name: fork.refused for fork in elastic.forks if fork.refused}
    assert refused == {
        "blocks.1.depthwise": f"choosing k3 {READ}",
        "blocks.3.depthwise": "choosing k3 breaks the forward: 'k7'",
    }
    assert [fork.name for fork in elastic.open_forks] == [f"blocks.{number}.depthwise" for number in (0, 2, 4)]


def test_what_goes_wrong_with_one_combination_alone_is_refused() -> None:
    """One at a time nothing fails, and yet this network is another than it runs."""
    names = [f"blocks.{number}.depthwise" for number in range(6)]
    forks = [made(name, OPERATOR, "357") for name in names]
    forks = [Fork(f.name, f.kind, ("k3", "k5", "k7"), f.parts) for f in forks]
    bad = list(next(together(forks, generator(0, "proof", "together"))).values())
    assert len(set(bad)) == 3

    def spoil(forks: list[Any], x: Tensor) -> Tensor:
        return x * 1.5 if [fork.default for fork in forks] == bad else x

    elastic = elastic_of(Row(6, spoil))
    (fork,) = (fork for fork in elastic.forks if fork.refused)
    last = max(number for number in range(6) if bad[number] != "k7")
    assert fork.name == names[last]
    assert fork.refused == f"choosing {bad[last]} together with options of other forks {READ}"


def test_a_shape_that_only_what_is_taken_out_has_is_a_reason() -> None:
    elastic = elastic_of(Row(2, lambda forks, x: x if forks[0].default == "k7" else x[:, :, ::2]))
    assert {fork.name: fork.refused for fork in elastic.forks if fork.refused} == {
        "blocks.0.depthwise": f"choosing k3 {READ}"
    }


# --- taking out -------------------------------------------------------------------------------------------------------


class Heavy(nn.Conv2d):
    """Says when it is copied."""

    copies: list[str]

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        self.copies.append("copied")
        twin = Heavy(16, 16, 5, padding=2)
        twin.copies = self.copies
        twin.load_state_dict(self.state_dict())
        return twin


def test_what_is_not_chosen_is_not_copied() -> None:
    heavy = Heavy(16, 16, 5, padding=2)
    heavy.copies = copies = []
    elastic = elastic_of(fork_zoo.Forked(mtnas.OneOf({"light": zoo.conv_bn(16, 16), "heavy": heavy})))
    for chosen, expected in (("light", 0), ("heavy", 1)):
        copies.clear()
        elastic.extract(Selection.of({}, chosen={"middle": chosen}), statistics=dict(elastic.state()))
        assert len(copies) == expected


def test_an_option_that_runs_elsewhere_too_is_copied() -> None:
    """It has another name, by which it stays: one activation serves two places."""

    class Again(fork_zoo.Forked):
        def forward(self, image: Tensor) -> dict[str, Tensor]:
            x = self.again(self.middle(self.stem(image)))
            return {"depth": self.depth(x), "labels": self.labels(x)}

    again = nn.Tanh()
    model = Again(mtnas.OneOf({"light": again, "heavy": zoo.conv_bn(16, 16)}))
    model.again = again  # type: ignore[assignment]
    elastic, image = elastic_of(model), zoo.image(2, seed=3)
    plain = elastic.extract(Selection.of({}))
    with torch.no_grad():
        found, expected = plain(image), elastic.run(image)
    assert all(torch.equal(found[task], expected[task]) for task in expected)
    assert isinstance(plain.get_submodule("again"), nn.Tanh)
