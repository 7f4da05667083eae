"""Which options are open when, and that no network is trained twice in a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from step_toys import normed_elastic
from train_toys import MODEL, SIZE, TARGETS, ToySplit, same, sandwich_config, stopped, toy_elastic, toy_tasks

from mtnas.base.seeds import generator
from mtnas.elastic.model import make_elastic
from mtnas.space.choice import Choice
from mtnas.space.rules import SpaceRules
from mtnas.space.space import Space
from mtnas.train.build import build_model
from mtnas.train.clock import Clock, work_until
from mtnas.train.config import TrainConfig
from mtnas.train.cost import Phase, StepCost, cost_text, phase_costs, step_cost, whole_cost
from mtnas.train.loop import Sandwich, train
from mtnas.train.objective import StepBatch
from mtnas.train.precision import Mode
from mtnas.train.sampling import opened, openings, step_archs

PLAIN = Mode("float32", channels_last=False)
SPACE = Space(tuple(Choice(f"w{k}", (16, 32, 48, 64), "width", ("a",)) for k in range(4)))


def settings(**chosen: object) -> TrainConfig:
    return TrainConfig(**chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("done", "options"), [(0.0, (64,)), (0.09, (64,)), (0.11, (48, 64)), (0.25, (32, 48, 64)), (0.3, (16, 32, 48, 64))]
)
def test_options_open_one_by_one(done: float, options: tuple[int, ...]) -> None:
    """Three smaller options, opened in equal intervals of the first 30 % of the training."""
    space = opened(SPACE, done, settings(progressive=0.3))
    assert all(choice.options == options for choice in space.choices) and space.largest == SPACE.largest
    assert opened(SPACE, done, settings()) == SPACE


@pytest.mark.parametrize(
    ("chosen", "shares"),
    [
        ({}, (0.0, 0.0, 0.0)),
        ({"warm_share": 0.4}, (0.4, 0.4, 0.4)),
        ({"warm_share": 0.2, "progressive": 0.6}, (0.2, 0.4, 0.6)),
        ({"warm_share": 0.5, "progressive": 0.5}, (0.5, 0.5, 0.5)),
        ({"progressive": 0.6}, (0.2, 0.4, 0.6)),
    ],
)
def test_when_options_open(chosen: dict[str, float], shares: tuple[float, ...]) -> None:
    assert openings(SPACE, settings(**chosen)) == pytest.approx(shares)


def test_the_largest_alone_until_its_share_is_over() -> None:
    config = settings(warm_share=0.4)
    assert opened(SPACE, 0.39, config).smallest == SPACE.largest
    assert opened(SPACE, 0.4, config) == SPACE
    assert opened(SPACE, 0.999, settings(warm_share=1.0)).smallest == SPACE.largest


def test_choices_with_fewer_options_open_sooner() -> None:
    space = Space((Choice("wide", (1, 2, 3, 4)), Choice("deep", (1, 2), "depth"), Choice("fixed", (8,))))
    found = opened(space, 0.4, settings(progressive=1.0))
    assert [choice.options for choice in found.choices] == [(3, 4), (1, 2), (8,)]
    assert opened(Space(()), 0.0, settings(warm_share=0.5)) == Space(())


def test_archs_of_one_network_are_trained_once() -> None:
    """The width inside a block that is left out makes no difference."""
    network = build_model(replace(MODEL, blocks=(2, 1)), TARGETS)
    rules = SpaceRules(depth=True)
    elastic = make_elastic(network, torch.randn(2, 3, SIZE, SIZE), rules=rules, round_to=4, prove=False)
    block = next(name for name in elastic.skippable)
    inner = next(choice for choice in elastic.space.choices if choice.name.startswith(f"{block}."))
    open_names = {inner.name, *(choice.name for choice in elastic.space.choices if choice.kind == "depth")}
    space = Space(
        tuple(c if c.name in open_names else replace(c, options=c.options[-1:]) for c in elastic.space.choices)
    )
    config, full = settings(random_widths=40), elastic.space.largest
    found = step_archs(space, generator(0), config, full, elastic.selection)
    networks = [elastic.selection(arch) for alike in found for arch in alike]
    count = len(inner.options)
    assert len(set(networks)) == len(networks) == count  # without the block, or with it at a smaller width
    plain = [arch for alike in step_archs(space, generator(0), config, full) for arch in alike]
    assert {elastic.selection(arch) for arch in plain} == set(networks) and len(plain) > len(networks)


@pytest.mark.parametrize("random_widths", [0, 3])
@pytest.mark.parametrize("decoders", [1, 2])
def test_passes_of_a_step(random_widths: int, decoders: int) -> None:
    """The largest network is trained in every step, once; alone while nothing else is open."""
    elastic = toy_elastic()
    config = sandwich_config(warm_share=0.5, random_widths=random_widths, decoders_per_encoder=decoders)
    objective = Sandwich(elastic, toy_tasks(), config, seed=0)
    runs: list[int] = []
    elastic.model.get_submodule("heads.depth.output").register_forward_hook(lambda m, x, y: runs.append(len(y)))
    image, targets = ToySplit().batch(np.arange(4))
    for done, expected in ((0.49, 1), (0.5, 1 + (1 + random_widths) * decoders)):
        batch = StepBatch(3, image, targets, PLAIN, done)
        archs = [arch for alike in objective.archs(batch) for arch in alike]
        assert elastic.space.largest not in archs and (elastic.space.smallest in archs) == (done >= 0.5)
        runs.clear()
        objective.accumulate(batch)
        assert len(runs) == 1 + len(archs) == expected


def test_cost_of_phases() -> None:
    """A training whose first part is a plain network's costs that much less."""
    elastic = toy_elastic()
    always = step_cost(elastic, sandwich_config()).ratio
    plain, sandwich = phase_costs(elastic, sandwich_config(warm_share=0.3))
    assert plain.cost.ratio == plain.cost.networks == 1.0 and (plain.share, sandwich.share) == (0.3, 0.7)
    assert sandwich.cost.ratio == pytest.approx(always, rel=0.1)
    whole = step_cost(elastic, sandwich_config(warm_share=0.3))
    assert whole.ratio == pytest.approx(0.3 + 0.7 * sandwich.cost.ratio)
    alone = step_cost(elastic, sandwich_config(warm_share=1.0))
    assert alone.ratio == alone.networks == 1.0
    assert whole_cost(phase_costs(elastic, sandwich_config())).ratio == always


def test_cost_in_words() -> None:
    one, three = (StepCost(1.0, 1.0, 1.0 * k, 2.0 * k, 3.0) for k in (1, 3))
    assert cost_text([Phase(1.0, three)]) == "a step computes 3.00 times what a plain network's does"
    assert cost_text([Phase(0.25, one), Phase(0.75, three)]) == (
        "a step computes 2.50 times what a plain network's does (1.00 until 25%, 3.00 until 100% of the training)"
    )


def test_time_left_knows_what_later_steps_cost() -> None:
    phases = ((0.5, 1.0), (0.5, 3.0))
    assert [work_until(done, phases) for done in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.25, 0.5, 1.25, 2.0]
    clock = Clock()
    clock.started -= 10.0
    assert clock.left(0.0, 0.5, phases) == pytest.approx(30.0, rel=0.01)
    assert clock.left(0.5, 0.75, phases) == pytest.approx(10.0, rel=0.01)


def test_interrupted_while_the_largest_is_alone(tmp_path: Path) -> None:
    config = sandwich_config(checkpoint_seconds=0.0, warm_share=0.5, progressive=0.8, epochs=1, resort_openings=True)
    stopped(tmp_path / "cut", config, 2, normed_elastic())
    whole, resumed = normed_elastic(), normed_elastic()
    train(whole, toy_tasks(), ToySplit(), config, tmp_path / "whole", seed=0)
    train(resumed, toy_tasks(), ToySplit(), config, tmp_path / "cut", seed=0)
    assert same(whole.state(), resumed.state())


def test_alone_all_the_time_is_a_plain_training(tmp_path: Path) -> None:
    """With `warm_share: 1` every weight is what the largest network's own gradients make of it."""
    first, second = normed_elastic(), normed_elastic()
    train(first, toy_tasks(), ToySplit(), sandwich_config(warm_share=1.0, epochs=1), tmp_path / "a", seed=0)
    other = sandwich_config(warm_share=1.0, epochs=1, random_widths=7, distill_weight=1.0)
    result = train(second, toy_tasks(), ToySplit(), other, tmp_path / "b", seed=0)
    assert same(first.state(), second.state()) and result.cost["ratio"] == 1.0
