"""Channels are sorted again during training: the largest network, its optimizer and all that goes along stay what they
were, and a training that was interrupted around it ends with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fork_zoo
import numpy as np
import pytest
import torch
import zoo
from step_toys import normed_elastic
from torch import Tensor
from train_toys import SIZE, ToySplit, curve, same, sandwich_config, stopped, toy_elastic, toy_tasks

from mtnas.base.errors import JobError
from mtnas.base.groups import Selection
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.elastic.sort import alone, l1_importance
from mtnas.space.rules import SpaceRules
from mtnas.train.average import WeightAverage
from mtnas.train.balance.make import make_balance
from mtnas.train.config import TrainConfig
from mtnas.train.loop import Sandwich, train
from mtnas.train.objective import Moment
from mtnas.train.optimizer import make_optimizer
from mtnas.train.resort import Resorting
from mtnas.train.sampling import opened
from mtnas.train.state import FitState

EVERYTHING = SpaceRules(depth=True, operators=True, experts=True)
IMAGE = zoo.image(2, SIZE, 3)


def shuffled(elastic: ElasticModel, seed: int = 1) -> ElasticModel:
    """Units of every group in random order, so that there is something to sort."""
    rng = np.random.default_rng(seed)
    elastic.sort_channels({group.name: rng.random(group.size) for group in elastic.groups})
    return elastic


def resorting(elastic: ElasticModel, config: TrainConfig) -> Resorting:
    objective = Sandwich(elastic, toy_tasks(), config, seed=0)
    return Resorting(elastic, config, objective.features, objective.balance, objective.parts)


def answers(elastic: ElasticModel, selection: Selection | None = None) -> dict[str, Tensor]:
    """In evaluation mode: dropout draws for places."""
    elastic.calibrate_with(lambda: [IMAGE])
    with torch.no_grad():
        return elastic.run(IMAGE, selection)


def difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return max(float((first[task] - second[task]).abs().max()) for task in first)


NETWORKS: dict[str, Callable[[], ElasticModel]] = {
    "ours": toy_elastic,
    **{
        name: lambda name=name: make_elastic(zoo.build(name), IMAGE, round_to=4, rules=EVERYTHING)
        for name in ("residual", "grouped", "attention")
    },
    **{
        name: lambda name=name: make_elastic(fork_zoo.network(name), IMAGE, round_to=4, rules=EVERYTHING)
        for name in ("operators", "experts")
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_largest_network_stays_and_narrower_ones_change(name: str) -> None:
    """Depth, attention heads, grouped convolutions, operators and experts included."""
    elastic = shuffled(NETWORKS[name]())
    smallest = elastic.selection(elastic.space.smallest)
    before, narrow = answers(elastic), answers(elastic, smallest)
    fields = resorting(elastic, sandwich_config(resort_epochs=1))(Moment(6, 6, 12), alone)
    assert fields["resorted"] > 0.5
    assert difference(answers(elastic), before) < 1e-4
    assert difference(answers(elastic, smallest), narrow) > 1e-3
    importance = l1_importance(elastic.groups, elastic.state())
    for group in (group for group in elastic.groups if group.elastic):
        assert np.diff(importance[group.name]).max() <= 1e-9


def test_when_it_is_time() -> None:
    elastic = toy_elastic()
    every = resorting(elastic, sandwich_config(resort_epochs=2))
    assert [step for step in range(20) if every.leading(Moment(step, 3, 20))] == [6, 12, 18]
    assert set(every.leading(Moment(6, 3, 20))) == {group.name for group in elastic.groups if group.elastic}
    opening = resorting(elastic, sandwich_config(warm_share=0.3, progressive=0.5, resort_openings=True))
    assert [step for step in range(20) if opening.leading(Moment(step, 3, 20))] == [6, 8, 10]
    for config in (sandwich_config(), sandwich_config(warm_share=0.3)):
        assert not any(resorting(elastic, config).leading(Moment(step, 3, 20)) for step in range(20))


def test_an_opening_leaves_all_networks_that_were_open() -> None:
    """Only those that the opening adds are other ones than they would have been."""
    elastic = shuffled(toy_elastic())
    config = sandwich_config(progressive=1.0, resort_openings=True)
    before, now = (opened(elastic.space, done, config) for done in (0.5, 0.7))
    kept = {arch: answers(elastic, elastic.selection(arch)) for arch in (before.largest, before.smallest)}
    added = answers(elastic, elastic.selection(now.smallest))
    moved = resorting(elastic, config)(Moment(7, 3, 10), alone)
    assert 0 < moved["resorted"] < 1
    for arch, expected in kept.items():
        assert difference(answers(elastic, elastic.selection(arch)), expected) < 1e-5
    assert difference(answers(elastic, elastic.selection(now.smallest)), added) > 1e-3


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_next_steps_of_the_largest_network_are_the_same(tmp_path: Path, optimizer: str) -> None:
    """Momenta, second moments and averages go along; without them the weights go elsewhere."""
    settings = {"optimizer": optimizer, "ema": 0.5, "warm_share": 1.0, "lr": 0.01, "epochs": 3}
    found = {}
    for name, more in (("sorted", {"resort_epochs": 1}), ("plain", {})):
        elastic = shuffled(normed_elastic())
        result = train(elastic, toy_tasks(), ToySplit(), sandwich_config(**settings, **more), tmp_path / name, seed=0)
        found[name] = answers(elastic), result.losses["total"]
    moved = [line["resorted"] for line in curve(tmp_path / "sorted") if "resorted" in line]
    assert len(moved) == 2 and moved[0] > 0.5
    assert difference(found["sorted"][0], found["plain"][0]) < 5e-3
    assert found["sorted"][1] == pytest.approx(found["plain"][1], rel=1e-3)


@pytest.mark.parametrize("forgotten", [False, True])
def test_what_goes_along_matters(forgotten: bool) -> None:
    """One step after a re-sorting, with a momentum that points somewhere: the same network, or not."""
    answers_after = []
    for sort in (False, True):
        elastic, config = shuffled(toy_elastic()), sandwich_config(optimizer="sgd", resort_epochs=1)
        optimizer = make_optimizer(config, elastic.model, ())
        state = FitState(elastic.model, {}, optimizer, WeightAverage(elastic.model, 0.5))
        for name, parameter in elastic.model.named_parameters():
            rng = torch.Generator().manual_seed(len(name))
            optimizer.state[parameter]["momentum_buffer"].copy_(torch.randn(parameter.shape, generator=rng))
            parameter.grad = torch.zeros_like(parameter)
        if sort:
            resorting(elastic, config)(Moment(6, 6, 12), alone if forgotten else state.along)
        optimizer.step()
        answers_after.append(answers(elastic))
    assert (difference(*answers_after) > 2e-3) == forgotten


def test_what_goes_along_with_a_tensor() -> None:
    elastic, config = toy_elastic(), sandwich_config(optimizer="adamw", lr=0.01)
    optimizer, average = make_optimizer(config, elastic.model, ()), WeightAverage(elastic.model, 0.5)
    state = FitState(elastic.model, {}, optimizer, average)
    name, parameter = next(iter(elastic.model.named_parameters()))
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    found = state.along(parameter)
    kept = optimizer.state[parameter]
    assert [id(t) for t in found] == [id(t) for t in (kept["exp_avg"], kept["exp_avg_sq"], average.tensors[name])]
    assert state.along(parameter.detach()) == []
    assert FitState(elastic.model, {}, make_optimizer(config, elastic.model, ()), None).along(parameter) == []


@pytest.mark.parametrize("stop", [6, 7], ids=["right before", "right after"])
def test_interrupted_equals_uninterrupted(tmp_path: Path, stop: int) -> None:
    """A checkpoint is written after each step; the channels are sorted between steps 6 and 7, and 12 and 13."""
    settings = {"feature_distill": "project", "ema": 0.9, "optimizer": "adamw", "epochs": 3, "random_widths": 1}
    config = sandwich_config(checkpoint_seconds=0.0, resort_epochs=1, **settings)
    stopped(tmp_path / "cut", config, stop, normed_elastic())
    whole, resumed = normed_elastic(), normed_elastic()
    train(whole, toy_tasks(), ToySplit(), config, tmp_path / "whole", seed=0)
    train(resumed, toy_tasks(), ToySplit(), config, tmp_path / "cut", seed=0)
    assert same(whole.state(), resumed.state())
    marked = [[line for line in curve(tmp_path / name) if "resorted" in line] for name in ("whole", "cut")]
    assert [line["step"] for line in marked[0]] == [7, 13] and marked[0][0]["resorted"] > 0
    assert [line["resorted"] for line in marked[0]] == [line["resorted"] for line in marked[1]]


def test_frozen_parts_keep_their_values() -> None:
    """Where a group has parameters that are not trained, its channels stay."""
    elastic = shuffled(toy_elastic())
    frozen = dict(elastic.model.encoder.named_parameters())
    for parameter in frozen.values():
        parameter.requires_grad_(False)
    before = {name: parameter.clone() for name, parameter in frozen.items()}
    fields = resorting(elastic, sandwich_config(resort_epochs=1))(Moment(6, 6, 12), alone)
    assert fields["resorted"] > 0 and all(torch.equal(frozen[name], before[name]) for name in before)


def test_decoders_of_other_tasks_stay(tmp_path: Path) -> None:
    """Their tensors keep their values, but for the order of the shared channels that they read."""
    elastic = shuffled(normed_elastic())
    before = elastic.state()
    config = sandwich_config(resort_epochs=1, warm_share=0.4)
    train(elastic, {"depth": toy_tasks()["depth"]}, ToySplit(), config, tmp_path, seed=0)
    after = elastic.state()
    assert [line for line in curve(tmp_path) if line.get("resorted")]
    assert torch.equal(before["segmentation.2.weight"], after["segmentation.2.weight"])
    assert not torch.equal(before["depth.2.weight"], after["depth.2.weight"])
    assert not torch.equal(before["segmentation.0.weight"], after["segmentation.0.weight"])
    assert torch.equal(before["segmentation.0.weight"].sort(1)[0], after["segmentation.0.weight"].sort(1)[0])


def test_memories_of_gradients_are_void() -> None:
    balance = make_balance("bandit", {"a": 1.0, "b": 1.0})
    balance.latest_TD.fill_(1.0)
    balance.moved()
    assert not balance.latest_TD.any()


def test_a_negative_number_of_epochs() -> None:
    with pytest.raises(JobError, match="zero \\(never\\) or more"):
        TrainConfig(resort_epochs=-1)
