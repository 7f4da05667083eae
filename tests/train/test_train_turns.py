"""Networks that take turns: one in each step, and everything else as in a step of all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_train_cost import IMAGES, watched
from test_train_reuse import taken
from train_toys import ToySplit, curve, same, sandwich_config, stopped, toy_elastic, toy_tasks

from mtnas.base.errors import JobError
from mtnas.elastic.model import ElasticModel
from mtnas.space.arch import Arch
from mtnas.train.config import TrainConfig
from mtnas.train.cost import StepCounter, mean_cost, step_cost
from mtnas.train.gradients import StepGradients
from mtnas.train.loop import Sandwich, train
from mtnas.train.objective import StepBatch
from mtnas.train.precision import Mode
from mtnas.train.ranks import current_ranks


def turns(**settings: object) -> TrainConfig:
    return sandwich_config(**{"step": "turns", "distill_weight": 0.0, "feature_distill": "auto", **settings})


def batch_of(step: int, done: float = 1.0) -> StepBatch:
    images = ToySplit().batch(np.arange(IMAGES))
    return StepBatch(step, *images, Mode("float32", channels_last=False), done)


@pytest.fixture(scope="module")
def elastic() -> ElasticModel:
    return toy_elastic()


def round_of(elastic: ElasticModel, step: int, **settings: object) -> list[Arch]:
    """The networks that a sandwich has in this step, the largest first."""
    others = Sandwich(elastic, toy_tasks(), sandwich_config(**settings), seed=0).archs(batch_of(step))
    return [elastic.space.largest, *(arch for alike in others for arch in alike)]


@pytest.mark.parametrize("step", range(4))
def test_a_step_has_the_gradients_of_the_network_whose_turn_it_is(elastic: ElasticModel, step: int) -> None:
    objective, batch, tasks = Sandwich(elastic, toy_tasks(), turns(), seed=0), batch_of(step), toy_tasks()
    losses = objective.accumulate(batch)
    received = taken(elastic.model)
    selection = elastic.selection(round_of(elastic, step)[step % 4])
    outputs = elastic.run(batch.image_BCHW, selection, training=True)
    expected = {name: task.loss(outputs[name], batch.targets[name]) for name, task in tasks.items()}
    sum(task.spec.weight * expected[name] for name, task in tasks.items()).backward()
    for name, gradient in taken(elastic.model).items():
        torch.testing.assert_close(received[name], gradient)
    assert losses.keys() == {*tasks, "total"}
    assert all(losses[name] == pytest.approx(float(loss.detach())) for name, loss in expected.items())


def test_a_round_has_the_largest_the_smallest_and_random_ones(elastic: ElasticModel) -> None:
    objective = Sandwich(elastic, toy_tasks(), turns(random_widths=3), seed=0)
    found = [objective.leading(batch_of(step)) for step in range(10)]
    largest, smallest = (elastic.selection(arch) for arch in (elastic.space.largest, elastic.space.smallest))
    assert found[0] == found[5] == largest and found[1] == found[6] == smallest
    assert len({*found}) == 8


def test_until_the_others_join_it_is_always_the_largest_ones_turn(elastic: ElasticModel) -> None:
    objective = Sandwich(elastic, toy_tasks(), turns(warm_share=0.5), seed=0)
    largest = elastic.selection(elastic.space.largest)
    assert {objective.leading(batch_of(step, 0.4)) for step in range(8)} == {largest}
    assert len({objective.leading(batch_of(step, 0.6)) for step in range(8)}) > 2


@pytest.mark.parametrize("settings", [{}, {"balance": "nash"}, {"balance": "famo", "flat_radius": 0.05}], ids=str)
@pytest.mark.parametrize("step", [1, 2])
def test_a_step_computes_what_is_told(elastic: ElasticModel, settings: dict[str, object], step: int) -> None:
    config, batch = turns(**settings), batch_of(step)
    told = StepCounter(elastic, config).step([], round_of(elastic, step)[step])
    gradients = StepGradients(Sandwich(elastic, toy_tasks(), config, seed=0), 0, IMAGES, 1, current_ranks())
    with watched(elastic) as macs:
        gradients.collect(batch)
        gradients.look(batch)
    assert macs["forward"] == pytest.approx(told.forward_macs)
    assert macs["backward"] == pytest.approx(told.backward_macs)
    assert told.networks == 1


def test_four_turns_cost_a_sandwich(elastic: ElasticModel) -> None:
    archs = [[arch] for arch in round_of(elastic, 7)[1:]]
    whole, mean = StepCounter(elastic, sandwich_config()).step(archs), StepCounter(elastic, turns()).drawn(archs)
    assert 4 * mean.forward_macs == pytest.approx(whole.forward_macs)
    assert 4 * mean.ratio == pytest.approx(whole.ratio)
    assert mean_cost([mean, mean]).networks == 1
    # a sandwich in which two draws are one network has fewer passes, but rounds are as long
    assert step_cost(elastic, turns()).ratio == pytest.approx(step_cost(elastic, sandwich_config()).ratio / 4, rel=0.1)


@pytest.mark.parametrize("settings", [{}, {"balance": "famo"}, {"balance": "nash"}, {"balance": "bandit"}], ids=str)
def test_interrupted_equals_uninterrupted(tmp_path: Path, settings: dict[str, object]) -> None:
    config = turns(checkpoint_seconds=0.0, warm_share=0.2, **settings)
    stopped(tmp_path / "cut", config, 6, toy_elastic())
    whole, resumed = toy_elastic(), toy_elastic()
    train(whole, toy_tasks(), ToySplit(), config, tmp_path / "whole", seed=0)
    train(resumed, toy_tasks(), ToySplit(), config, tmp_path / "cut", seed=0)
    assert same(whole.state(), resumed.state())


@pytest.mark.parametrize(
    "settings", [{"distill_weight": 0.5}, {"feature_distill": "slice"}, {"decoders_per_encoder": 2}], ids=str
)
def test_what_needs_several_networks_in_a_step_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(JobError, match=next(iter(settings))):
        turns(**settings)


def test_an_epoch_shows_every_image_to_each_network_of_a_round(tmp_path: Path) -> None:
    config = turns(epochs=2, random_widths=1, watch_epochs=0)
    result = train(toy_elastic(), toy_tasks(), ToySplit(8), config, tmp_path, seed=0)
    lines = curve(tmp_path)
    assert result.steps == 2 * 3 * 2 and lines[-1]["epoch"] == 2.0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 4),
        ({"random_widths": 0}, 2),
        ({"step": "sandwich"}, 1),
        ({"distill_weight": 0.1}, 1),
        ({"feature_distill": "gram"}, 1),
        ({"feature_distill": "none"}, 4),
        ({"decoders_per_encoder": 2}, 1),
    ],
    ids=str,
)
def test_networks_take_turns_unless_something_asks_for_several_in_a_step(
    settings: dict[str, object], expected: int
) -> None:
    assert TrainConfig(**settings).round == expected


def test_an_unknown_step_is_refused() -> None:
    with pytest.raises(JobError, match="sandwich"):
        TrainConfig(step="sandwhich")
