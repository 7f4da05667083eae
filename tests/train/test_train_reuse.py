"""One encoder pass for several decoders: the gradients of separate passes, with one pass through the shared part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from test_train_sandwich import Relabelled, fitting_type
from torch import Tensor, nn
from train_toys import SIZE, Stop, ToySplit, curve, same, sandwich_config, toy_elastic, toy_tasks

from mtnas.base.errors import ModelError
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.tasks.base import Task, TaskSpec, make_task
from mtnas.train.loop import Sandwich, train
from mtnas.train.objective import StepBatch
from mtnas.train.precision import Mode
from mtnas.train.reuse import shared_modules

PLAIN = Mode("float32", channels_last=False)
SHARED = {
    "plain": ("first", "second", "act"),
    "residual": ("stem", "stages"),
    "unet": ("down1", "down2", "down3", "up2", "fuse2", "up1", "norm1", "fuse1"),
    "shared_tower": ("fine", "coarse", "lateral_coarse"),
    "grouped": ("stem", "narrow", "grouped", "widen", "halves", "quarters"),
    "high_resolution": (*("stem", "to2", "branch1", "branch2", "fuse12", "fuse21", "to3", "branch3", "fuse31", "mix"),),
}
#: Those whose decoders have widths of their own.
WITH_DECODERS = ("residual", "grouped", "high_resolution")


def foreign(name: str) -> tuple[ElasticModel, dict[str, Task], ToySplit]:
    """A network of the zoo without dropout, tasks that fit its outputs, and labels."""
    network = zoo.build(name)
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    elastic = make_elastic(network, torch.randn(2, 3, SIZE, SIZE), round_to=4)
    with torch.no_grad():
        outputs = elastic.model(torch.randn(2, 3, SIZE, SIZE))
    tasks = {task: make_task(TaskSpec(task, fitting_type(output), output.shape[1])) for task, output in outputs.items()}
    return elastic, tasks, Relabelled(outputs)


def by_hand(objective: Sandwich, batch: StepBatch) -> dict[str, Tensor]:
    """Gradients of the step's networks, each in a pass of its own."""
    elastic, tasks = objective.elastic, objective.tasks
    archs = [arch for alike in objective.archs(batch) for arch in alike]
    teacher = elastic.run(batch.image_BCHW, objective.largest, training=True)
    total = sum(task.spec.weight * task.loss(teacher[name], batch.targets[name]) for name, task in tasks.items())
    for arch in archs:
        outputs = elastic.run(batch.image_BCHW, elastic.selection(arch), training=True)
        for name, task in tasks.items():
            pull = task.distill(outputs[name], teacher[name].detach())
            total = total + task.spec.weight * (0.5 * task.loss(outputs[name], batch.targets[name]) + 0.5 * pull)
    (total / (1 + len(archs))).backward()
    return taken(elastic.model)


def taken(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("name", SHARED)
def test_the_shared_part_is_what_serves_several_tasks_and_runs_once(name: str) -> None:
    assert shared_modules(foreign(name)[0]) == SHARED[name]


@pytest.mark.parametrize("name", WITH_DECODERS)
def test_the_gradients_are_those_of_separate_passes(name: str) -> None:
    elastic, tasks, split = foreign(name)
    objective = Sandwich(elastic, tasks, sandwich_config(decoders_per_encoder=3), seed=0)
    batch = StepBatch(1, *split.batch(np.arange(6)), PLAIN)
    assert any(len(alike) > 1 for alike in objective.archs(batch))
    objective.accumulate(batch)
    received, expected = taken(elastic.model), by_hand(objective, batch)
    assert received.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(received[key], gradient, rtol=2e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-7)


@pytest.mark.parametrize("features", [(), ("encoder.stem", "encoder.stages.1")], ids=["encoder", "inside"])
def test_features_count_for_every_network_that_has_them(features: tuple[str, ...]) -> None:
    """The same step with the passes taken apart, by a trunk that is told to serve nobody."""
    found = []
    for reuse in (True, False):
        config = sandwich_config(decoders_per_encoder=2, feature_distill="slice", features=features)
        objective = Sandwich(toy_elastic(), toy_tasks(), config, seed=0)
        if not reuse:
            apart = objective.archs
            objective.archs = lambda batch, apart=apart: [[arch] for alike in apart(batch) for arch in alike]
        batch = StepBatch(2, *ToySplit().batch(np.arange(6)), PLAIN)
        found.append((objective.accumulate(batch), taken(objective.module)))
    (told, received), (expected_told, expected) = found
    assert told == pytest.approx(expected_told, rel=1e-4)
    for key, gradient in expected.items():
        torch.testing.assert_close(received[key], gradient, rtol=2e-3, atol=1e-5)


def test_the_encoder_runs_once_for_each_of_its_settings() -> None:
    elastic = toy_elastic()
    objective = Sandwich(elastic, toy_tasks(), sandwich_config(decoders_per_encoder=4), seed=0)
    batch = StepBatch(0, *ToySplit().batch(np.arange(4)), PLAIN)
    lengths = [len(alike) for alike in objective.archs(batch)]
    runs = {"encoder.stem.0.0": 0, "heads.depth.output": 0}

    def counter(name: str) -> object:
        def count(module: nn.Module, inputs: object, output: object) -> None:
            runs[name] += 1

        return count

    for name in runs:
        elastic.model.get_submodule(name).register_forward_hook(counter(name))
    objective.accumulate(batch)
    assert max(lengths) > 1
    assert runs == {"encoder.stem.0.0": 1 + len(lengths), "heads.depth.output": 1 + sum(lengths)}


def test_interrupted_equals_uninterrupted(tmp_path: Path) -> None:
    config = sandwich_config(checkpoint_seconds=0.0, decoders_per_encoder=2, progressive=0.8, precision="bfloat16")
    with pytest.raises(KeyboardInterrupt):
        train(toy_elastic(), toy_tasks(), ToySplit(), config, tmp_path / "cut", seed=0, progress=Stop(5))
    whole, resumed = toy_elastic(), toy_elastic()
    train(whole, toy_tasks(), ToySplit(), config, tmp_path / "whole", seed=0)
    train(resumed, toy_tasks(), ToySplit(), config, tmp_path / "cut", seed=0)
    assert same(whole.state(), resumed.state())
    assert curve(tmp_path / "whole")[-1]["losses"] == curve(tmp_path / "cut")[-1]["losses"]


def test_progressive_training_starts_with_the_largest_alone(tmp_path: Path) -> None:
    """The first step of a progressive training leaves the sub-networks out, and ends like any other."""
    elastic = toy_elastic()
    config = sandwich_config(progressive=1.0)
    objective = Sandwich(elastic, toy_tasks(), config, seed=0)
    batch = StepBatch(0, *ToySplit().batch(np.arange(4)), PLAIN, done=0.0)
    assert objective.archs(batch) == []
    objective.accumulate(batch)
    image, targets = batch.image_BCHW, batch.targets
    received = taken(elastic.model)
    outputs = elastic.run(image, training=True)
    sum(task.spec.weight * task.loss(outputs[n], targets[n]) for n, task in toy_tasks().items()).backward()
    for key, gradient in taken(elastic.model).items():
        torch.testing.assert_close(received[key], gradient)
    result = train(elastic, toy_tasks(), ToySplit(), config, tmp_path, seed=0)
    assert np.isfinite(result.losses["total"])


class Tied(nn.Module):
    """A network of one task, or one whose shared output is changed in place."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 16, 3, padding=1)
        self.heads = nn.ModuleList(nn.Conv2d(16, 1, 1) for _ in range(tasks))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.trunk(image).relu_()
        return {f"task{k}": head(x) for k, head in enumerate(self.heads)}


@pytest.mark.parametrize(("tasks", "match"), [(1, "no module that runs once"), (2, "what trunk returns is changed")])
def test_no_single_shared_part_is_refused(tasks: int, match: str) -> None:
    elastic = make_elastic(Tied(tasks), zoo.image(), round_to=4)
    with pytest.raises(ModelError, match=match):
        Sandwich(elastic, {}, sandwich_config(decoders_per_encoder=2), seed=0)
