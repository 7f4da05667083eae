"""Sandwich training with input sizes: they belong to the shared part, and every size learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_train_reuse import by_hand, taken
from train_toys import SIZE, ToySplit, drawn, sandwich_config, toy_net, toy_tasks

from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.space.rules import SpaceRules
from mtnas.train.features.table import FEATURE_FORMS
from mtnas.train.loop import FEATURES, Sandwich, train
from mtnas.train.objective import StepBatch
from mtnas.train.precision import Mode

PLAIN = Mode("float32", channels_last=False)
HALF = Selection.of({}, (), (SIZE // 2, SIZE // 2))


def sized() -> ElasticModel:
    rules = SpaceRules(shared=(0.5, 1.0), decoder=(0.5, 1.0), resolution=(0.5, 1.0))
    elastic = make_elastic(toy_net(), torch.zeros(2, 3, SIZE, SIZE), rules=rules, prove=False)
    assert elastic.inputs.sizes == (HALF.size,)
    elastic.calibrate_with(lambda: [ToySplit().images_NCHW])
    return elastic


def batch(number: int = 1) -> StepBatch:
    return StepBatch(number, *ToySplit().batch(np.arange(6)), PLAIN)


def test_steps_draw_every_size_with_the_encoder() -> None:
    space, config = sized().space, sandwich_config(decoders_per_encoder=3)
    objective = Sandwich(sized(), toy_tasks(), config, seed=0)
    sizes = set()
    for number in range(12):
        for alike in objective.archs(batch(number)):
            assert len({arch["input"] for arch in alike}) == 1
            sizes.add(alike[0]["input"])
    assert sizes == set(space.by_name["input"].options)
    assert any(arch["input"] == "16x16" for arch in drawn(space, generator(0, "x"), config))  # the smallest at least


@pytest.mark.parametrize("decoders", [1, 3])
def test_the_gradients_are_those_of_separate_passes(decoders: int) -> None:
    objective = Sandwich(sized(), toy_tasks(), sandwich_config(decoders_per_encoder=decoders), seed=0)
    objective.accumulate(batch())
    received = taken(objective.elastic.model)
    expected = by_hand(objective, batch())
    assert received.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(received[name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("form", FEATURE_FORMS)
def test_features_of_different_sizes_are_compared(form: str) -> None:
    """The teacher's finer maps are averaged; equal networks at two sizes are close, and not equal."""
    objective = Sandwich(sized(), toy_tasks(), sandwich_config(feature_distill=form), seed=0)
    told = objective.accumulate(batch())
    assert np.isfinite(told[FEATURES]) and 0.0 < told[FEATURES] < 4.0
    gradients = taken(objective.elastic.model)
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients.values())


def loss(elastic: ElasticModel, selection: Selection) -> float:
    image, targets = ToySplit().batch(np.arange(24))
    with torch.no_grad():
        outputs = elastic.run(image, selection)
    return sum(float(task.loss(outputs[name], targets[name])) for name, task in toy_tasks().items())


def test_every_size_learns(tmp_path: Path) -> None:
    elastic = sized()
    before = [loss(elastic, selection) for selection in (Selection.of({}), HALF)]
    config = sandwich_config(epochs=14)
    train(elastic, toy_tasks(), ToySplit(), config, tmp_path, seed=0)
    after = [loss(elastic, selection) for selection in (Selection.of({}), HALF)]
    assert after[0] < 0.6 * before[0] and after[1] < 0.75 * before[1]
