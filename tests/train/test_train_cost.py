"""The stated cost of a step is what the step really computes: every pass is watched, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zoo
from test_train_balance import HERE
from torch import Tensor, nn
from train_toys import ToySplit, sandwich_config, toy_elastic, toy_tasks

from mtnas.base.files import read_json
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.train.balance.make import make_balance
from mtnas.train.balance.table import BALANCES, EXTRAS, WEIGHING_LOSSES
from mtnas.train.cost import StepCounter, mean_cost, step_cost
from mtnas.train.gradients import StepGradients
from mtnas.train.loop import Sandwich, train
from mtnas.train.objective import StepBatch
from mtnas.train.precision import Mode
from mtnas.train.ranks import current_ranks

IMAGES = 4
SETTINGS = [
    *({"balance": name} for name in HERE if name != "bandit"),
    {"flat_radius": 0.05},
    {"balance": "famo", "flat_radius": 0.05},
    {"balance": "nash", "flat_radius": 0.05},
    {"decoders_per_encoder": 3},
    {"decoders_per_encoder": 3, "random_widths": 3, "balance": "famo"},
    {"random_widths": 0},
    {"accumulate": 2},
    {"accumulate": 2, "balance": "famo"},
]


@contextmanager
def watched(elastic: ElasticModel) -> Iterator[dict[str, float]]:
    """Multiply-adds per image of every forward pass of a layer, and of every gradient that comes back to its output."""
    macs = {"forward": 0.0, "backward": 0.0}

    def seen(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        own = layer.weight.numel() * output.shape[2:].numel() * output.shape[0] / IMAGES
        macs["forward"] += own
        if output.requires_grad:
            output.register_hook(lambda gradient: macs.__setitem__("backward", macs["backward"] + 2 * own))

    handles = [m.register_forward_hook(seen) for m in elastic.model.modules() if isinstance(m, nn.Conv2d)]
    try:
        yield macs
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_step_computes_what_is_told(settings: dict[str, object]) -> None:
    elastic, config = toy_elastic(), sandwich_config(**settings)
    objective = Sandwich(elastic, toy_tasks(), config, seed=0)
    batch = StepBatch(3, *ToySplit().batch(np.arange(IMAGES)), Mode("float32", channels_last=False))
    archs = objective.archs(batch)
    told = StepCounter(elastic, config).step(archs)
    gradients = StepGradients(objective, 0, IMAGES, config.accumulate, current_ranks())
    with watched(elastic) as macs:
        gradients.collect(batch)
        gradients.look(batch)
    assert macs["forward"] == pytest.approx(told.forward_macs)
    assert macs["backward"] == pytest.approx(told.backward_macs)
    assert told.networks == 1 + sum(len(alike) for alike in archs)


def test_one_network_alone_is_a_plain_step() -> None:
    elastic = toy_elastic()
    told = StepCounter(elastic, sandwich_config()).step([])
    with watched(elastic) as macs:
        outputs = elastic.run(ToySplit().images_NCHW[:IMAGES], training=True)
        sum(output.mean() for output in outputs.values()).backward()
    assert told.ratio == 1.0 and told.plain_macs == pytest.approx(sum(macs.values()))


def test_the_mean_step_lies_between_the_smallest_and_the_largest() -> None:
    elastic = toy_elastic()
    counter = StepCounter(elastic, sandwich_config())
    smallest = counter.step([[elastic.space.smallest]] * 3).ratio
    mean = step_cost(elastic, sandwich_config(random_widths=2))
    assert smallest < mean.ratio < 4.0 and 3.5 < mean.networks <= 4.0
    assert mean == step_cost(elastic, sandwich_config(random_widths=2))
    growing = step_cost(elastic, sandwich_config(random_widths=2, progressive=1.0))
    assert 1.0 < growing.networks < mean.networks
    served = step_cost(elastic, sandwich_config(random_widths=0, decoders_per_encoder=3))
    assert served.networks > 3.0 and served.shared_passes == 2.0


@pytest.mark.parametrize("tasks", [("depth",), ("segmentation",)])
def test_some_tasks_cost_what_they_compute(tasks: tuple[str, ...]) -> None:
    """Decoders of other tasks do not run, and make no difference between networks."""
    elastic, config = toy_elastic(), sandwich_config(random_widths=6, decoders_per_encoder=2)
    wished = {name: task for name, task in toy_tasks().items() if name in tasks}
    objective = Sandwich(elastic, wished, config, seed=0)
    batch = StepBatch(3, *ToySplit().batch(np.arange(IMAGES)), Mode("float32", channels_last=False))
    archs = objective.archs(batch)
    told = StepCounter(elastic, config, tasks).step(archs)
    other = [c.name for c in elastic.space.choices if c.owners and set(c.owners).isdisjoint(tasks)]
    kept = [tuple((n, o) for n, o in arch.options if n not in other) for alike in archs for arch in alike]
    assert other and len(set(kept)) == len(kept)
    with watched(elastic) as macs:
        objective.accumulate(batch)
    assert macs["forward"] == pytest.approx(told.forward_macs) and macs["backward"] == pytest.approx(told.backward_macs)
    assert told.plain_macs < StepCounter(elastic, config).step([]).plain_macs


def test_a_mean_is_a_mean() -> None:
    counter = StepCounter(toy_elastic(), sandwich_config())
    one, other = counter.step([]), counter.step([[counter.elastic.space.smallest]])
    assert mean_cost([one, other]).forward_macs == (one.forward_macs + other.forward_macs) / 2


def test_a_network_without_a_shared_part_has_a_cost_too() -> None:
    elastic = make_elastic(zoo.build("unusual"), zoo.image(), round_to=4)
    assert StepCounter(elastic, sandwich_config()).step([]).ratio == 1.0


def test_the_result_of_a_training_holds_its_cost(tmp_path: Path) -> None:
    elastic, config = toy_elastic(), sandwich_config(epochs=1)
    result = train(elastic, toy_tasks(), ToySplit(), config, tmp_path, seed=0)
    assert result.cost == step_cost(elastic, config).to_json()
    assert read_json(tmp_path / "fit.json", schema="train/1")["cost"]["ratio"] == result.cost["ratio"] > 1


def test_the_table_knows_who_weighs_losses() -> None:
    here = [name for name in BALANCES if not EXTRAS.get(name)]
    assert {name for name in here if make_balance(name, {"a": 1.0}).weighs_losses} == set(WEIGHING_LOSSES)
