"""Sandwich training of an elastic network: the right gradients, every width learns, exact resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from train_toys import (
    SIZE,
    Stop,
    ToySplit,
    curve,
    drawn,
    long_train,
    same,
    sandwich_config,
    start_and_kill,
    stored_step,
    toy_elastic,
    toy_tasks,
)
from zoo import ZOO

from mtnas.base.errors import CheckpointError, StaleStatistics, TrainingDiverged
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.tasks.base import TaskSpec, make_task
from mtnas.train.checkpoint import load_weights
from mtnas.train.loop import Sandwich, train
from mtnas.train.objective import StepBatch
from mtnas.train.precision import Mode

PLAIN = Mode("float32", channels_last=False)


def run(out: Path, elastic: ElasticModel | None = None, seed: int = 0, **settings: object) -> ElasticModel:
    elastic = elastic or toy_elastic()
    train(elastic, toy_tasks(), ToySplit(), sandwich_config(**settings), out, seed=seed)
    return elastic


def label_loss(elastic: ElasticModel, selection: Selection) -> float:
    image, targets = ToySplit().batch(np.arange(24))
    with torch.no_grad():
        outputs = elastic.run(image, selection)
    return sum(float(task.loss(outputs[name], targets[name])) for name, task in toy_tasks().items())


def test_every_width_learns(tmp_path: Path) -> None:
    elastic = toy_elastic()
    archs = [elastic.space.largest, elastic.space.smallest, elastic.space.sample(generator(0, "any"))]
    before = [label_loss(elastic, elastic.selection(arch)) for arch in archs]
    run(tmp_path, elastic, epochs=18)
    after = [label_loss(elastic, elastic.selection(arch)) for arch in archs]
    assert after[0] < 0.5 * before[0] and after[1] < 0.8 * before[1] and after[2] < 0.7 * before[2]
    assert curve(tmp_path)[-1]["total"] < 0.6 * curve(tmp_path)[0]["total"]


def test_gradients_are_the_mean_over_the_sub_networks() -> None:
    """Against the sum written out by hand: labels for the largest, half labels and half teacher for the others."""
    elastic, tasks, config = toy_elastic(), toy_tasks(), sandwich_config()
    image, targets = ToySplit().batch(np.arange(6))
    objective = Sandwich(elastic, tasks, config, seed=0)
    reported = objective.accumulate(StepBatch(5, image, targets, PLAIN))
    received = {name: parameter.grad for name, parameter in elastic.model.named_parameters()}
    elastic.model.zero_grad()

    archs = drawn(elastic.space, generator(0, "archs", 5), config)
    assert len(archs) == 3
    teacher = elastic.run(image, training=True)
    labels = {name: task.loss(teacher[name], targets[name]) for name, task in tasks.items()}
    total = labels["segmentation"] + 0.5 * labels["depth"]
    assert reported["total"] == pytest.approx(total.item(), rel=1e-5)
    for arch in archs:
        outputs = elastic.run(image, elastic.selection(arch), training=True)
        for name, task in tasks.items():
            pull = task.distill(outputs[name], teacher[name].detach())
            total = total + task.spec.weight * (0.5 * task.loss(outputs[name], targets[name]) + 0.5 * pull)
    (total / 4).backward()
    for name, parameter in elastic.model.named_parameters():
        torch.testing.assert_close(received[name], parameter.grad, rtol=1e-3, atol=1e-6)


def test_statistics_are_void_afterwards_and_not_touched_during(tmp_path: Path) -> None:
    elastic = toy_elastic()
    elastic.calibrate_with(lambda: ())
    before = {name: tensor for name, tensor in elastic.state().items() if "running" in name}
    run(tmp_path, elastic, epochs=1)
    after = elastic.state()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    with pytest.raises(StaleStatistics):
        elastic.run(torch.randn(2, 3, SIZE, SIZE))


def test_weights_file_is_the_state(tmp_path: Path) -> None:
    elastic = run(tmp_path, epochs=1)
    assert same(load_weights(tmp_path / "weights.safetensors"), elastic.state())


@pytest.mark.parametrize("settings", [{}, {"precision": "bfloat16", "channels_last": "always"}], ids=["fp32", "bf16"])
@pytest.mark.parametrize("stop", [2, 6])
def test_interrupted_equals_uninterrupted(tmp_path: Path, settings: dict[str, object], stop: int) -> None:
    config = sandwich_config(checkpoint_seconds=0.0, **settings)
    with pytest.raises(KeyboardInterrupt):
        train(toy_elastic(), toy_tasks(), ToySplit(), config, tmp_path / "cut", seed=0, progress=Stop(stop))
    whole = run(tmp_path / "whole", checkpoint_seconds=0.0, **settings)
    resumed = run(tmp_path / "cut", checkpoint_seconds=0.0, **settings)
    assert same(whole.state(), resumed.state())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_killed_at_a_random_moment_equals_uninterrupted(tmp_path: Path, precision: str) -> None:
    out = tmp_path / "killed"
    start_and_kill(out, precision)
    assert 0 < stored_step(out / "checkpoint.safetensors") < 60
    assert same(long_train(out, precision), long_train(tmp_path / "whole", precision))


def test_another_space_is_foreign(tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="another space"):
        run(tmp_path, toy_elastic(round_to=8), epochs=1)


def test_start_weights_do_not_matter_to_a_resumed_run(tmp_path: Path) -> None:
    """A factory that draws other weights in each process can still be continued."""
    first = run(tmp_path, epochs=1)
    assert same(first.state(), run(tmp_path, toy_elastic(seed=9), epochs=1).state())


def test_nan_is_told_with_the_cure(tmp_path: Path) -> None:
    split = ToySplit(bad=frozenset({3}))
    with pytest.raises(TrainingDiverged, match=r"lower train\.lr \(now 0\.003\), for example to 0\.001"):
        train(toy_elastic(), toy_tasks(), split, sandwich_config(), tmp_path, seed=0)
    assert (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("settings", [{"random_widths": 0}, {"distill_weight": 0.0}, {"distill_weight": 1.0}])
def test_settings_at_their_ends(tmp_path: Path, settings: dict[str, object]) -> None:
    run(tmp_path, epochs=1, **settings)


def test_uncertainty_weights_are_learned_and_kept(tmp_path: Path) -> None:
    run(tmp_path, balance="uncertainty", epochs=5)
    raw_T = load_weights(tmp_path / "checkpoint.safetensors")["balance/raw_T"]
    assert raw_T.std() > 0


@pytest.mark.parametrize("name", sorted(ZOO))
def test_models_it_has_never_seen(name: str, tmp_path: Path) -> None:
    """One epoch on the tasks of a foreign network, in bfloat16 and channels_last."""
    elastic = make_elastic(ZOO[name](), torch.randn(2, 3, SIZE, SIZE))
    with torch.no_grad():
        outputs = elastic.model(torch.randn(2, 3, SIZE, SIZE))
    tasks = {task: make_task(TaskSpec(task, fitting_type(output), output.shape[1])) for task, output in outputs.items()}
    config = sandwich_config(epochs=1, precision="bfloat16", channels_last="always", feature_distill="auto")
    before = elastic.state()
    result = train(elastic, tasks, Relabelled(outputs), config, tmp_path, seed=0)
    assert set(result.losses) - {"feature distance"} == {*tasks, "total"} and np.isfinite(result.losses["total"])
    after = elastic.state()
    trained = [key for key, parameter in elastic.model.named_parameters() if parameter.requires_grad]
    assert all(not torch.equal(before[key], after[key]) for key in trained)


def fitting_type(output: torch.Tensor) -> str:
    if output.ndim == 2:
        return "presence"
    return "segmentation" if output.shape[1] > 1 else "depth"


class Relabelled(ToySplit):
    """The toy images with labels in the shapes of another network's outputs."""

    def __init__(self, outputs: dict[str, torch.Tensor]) -> None:
        super().__init__(8)
        self.outputs = outputs

    def batch(self, indices, augment=None):
        image, toys = super().batch(indices, augment)
        targets = {}
        for name, output in self.outputs.items():
            if output.ndim == 2:
                targets[name] = (image.mean((1, 2, 3)) > 0).float()[:, None].expand(-1, output.shape[1])
            elif output.shape[1] > 1:
                targets[name] = F.interpolate(toys["segmentation"][:, None] % 2.0, output.shape[2:])[:, 0].long()
            else:
                targets[name] = F.interpolate(toys["depth"], output.shape[2:])
        return image, targets
