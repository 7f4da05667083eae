"""Distillation of features in training: the right gradients, any network, exact resume, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import depth_zoo
import numpy as np
import pytest
import torch
import zoo
from test_train_sandwich import Relabelled, fitting_type
from train_toys import SIZE, Stop, ToySplit, curve, same, sandwich_config, toy_elastic, toy_tasks

from mtnas.base.errors import JobError, ModelError
from mtnas.elastic.model import make_elastic
from mtnas.elastic.trunk import tensors_in, watching
from mtnas.space.rules import SpaceRules
from mtnas.tasks.base import TaskSpec, make_task
from mtnas.train.checkpoint import load_weights
from mtnas.train.features.make import feature_modules
from mtnas.train.features.table import FEATURE_FORMS
from mtnas.train.loop import FEATURES, Sandwich, train
from mtnas.train.objective import StepBatch
from mtnas.train.precision import Mode

PLAIN = Mode("float32", channels_last=False)


def step(objective: Sandwich, number: int = 5) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """What one step reports, and its gradients."""
    image, targets = ToySplit().batch(np.arange(6))
    reported = objective.accumulate(StepBatch(number, image, targets, PLAIN))
    gradients = {name: parameter.grad.clone() for name, parameter in objective.module.named_parameters()}
    objective.module.zero_grad()
    return reported, gradients


@pytest.mark.parametrize("balance", ["fixed", "nash"])
@pytest.mark.parametrize("form", sorted(FEATURE_FORMS))
def test_the_gradient_is_the_tasks_and_the_mean_distance_of_the_encoder(form: str, balance: str) -> None:
    """Written out by hand; what balances make of the tasks' gradients does not change, nor does any decoder's."""
    elastic = toy_elastic()
    plain = Sandwich(elastic, toy_tasks(), sandwich_config(balance=balance), seed=0)
    _, expected = step(plain)
    config = sandwich_config(balance=balance, feature_distill=form, feature_weight=0.7)
    objective = Sandwich(elastic, toy_tasks(), config, seed=0)
    reported, received = step(objective)

    image, _ = ToySplit().batch(np.arange(6))
    found = []
    drawn = objective.archs(StepBatch(5, image, {}, PLAIN))
    archs = [elastic.space.largest, *(arch for alike in drawn for arch in alike)]
    for arch in archs:
        with watching(elastic.model, ["encoder"]) as seen:
            elastic.run(image, elastic.selection(arch), training=True)
        found.append(tensors_in(seen["encoder"][0]))
    assert objective.features is not None
    distances = [
        objective.features.distance(students, found[0], elastic.selection(arch))
        for students, arch in zip(found[1:], archs[1:], strict=True)
    ]
    assert reported[FEATURES] == pytest.approx(float(torch.stack(distances).mean().detach()), rel=1e-4)
    (0.7 * torch.stack(distances).sum() / len(archs)).backward()
    for name, parameter in elastic.model.named_parameters():
        pull = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(received[name] - expected[name], pull, rtol=1e-2, atol=1e-5)
        assert name.startswith("encoder.") or not pull.any()


def test_small_networks_come_closer_to_the_largest(tmp_path: Path) -> None:
    """The distance in the curve falls further than without its gradient."""
    last = {}
    for weight in (1e-9, 3.0):
        config = sandwich_config(epochs=6, feature_distill="slice", feature_weight=weight)
        train(toy_elastic(), toy_tasks(), ToySplit(), config, tmp_path / str(weight), seed=0)
        last[weight] = curve(tmp_path / str(weight))[-1]["losses"][FEATURES]
    assert last[3.0] < 0.7 * last[1e-9]


FOREIGN = sorted(set(zoo.ZOO) - {"unusual"})
FORMS = sorted(FEATURE_FORMS)
#: Every network with two of the forms, and every form with half of the networks.
MET = [(name, FORMS[(number + k) % len(FORMS)]) for number, name in enumerate(FOREIGN) for k in (0, 1)]


@pytest.mark.parametrize(("name", "form"), MET)
def test_models_it_has_never_seen(name: str, form: str, tmp_path: Path) -> None:
    """One epoch in bfloat16 on the shared part of a foreign network, whatever its modules are called."""
    elastic = make_elastic(zoo.build(name), torch.randn(2, 3, SIZE, SIZE))
    with torch.no_grad():
        outputs = elastic.model(torch.randn(2, 3, SIZE, SIZE))
    tasks = {task: make_task(TaskSpec(task, fitting_type(output), output.shape[1])) for task, output in outputs.items()}
    config = sandwich_config(epochs=1, precision="bfloat16", channels_last="always", feature_distill=form)
    result = train(elastic, tasks, Relabelled(outputs), config, tmp_path, seed=0)
    assert 0 <= result.losses[FEATURES] <= 4


@pytest.mark.parametrize("form", sorted(FEATURE_FORMS))
def test_random_depth_and_other_units_than_channels(form: str, tmp_path: Path) -> None:
    elastic = make_elastic(
        depth_zoo.network("mobilenet"), torch.randn(2, 3, SIZE, SIZE), round_to=4, rules=SpaceRules(depth=True)
    )
    tasks = {
        "segmentation": make_task(TaskSpec("segmentation", "segmentation", 5)),
        "depth": make_task(TaskSpec("depth", "depth", 1)),
    }
    config = sandwich_config(epochs=1, feature_distill=form)
    result = train(elastic, tasks, ToySplit(), config, tmp_path, seed=0)
    assert 0 < result.losses[FEATURES] <= 4


@pytest.mark.parametrize("form", ["slice", "project"])
def test_interrupted_equals_uninterrupted_and_nothing_is_left_behind(form: str, tmp_path: Path) -> None:
    config = sandwich_config(checkpoint_seconds=0.0, feature_distill=form)
    with pytest.raises(KeyboardInterrupt):
        train(toy_elastic(), toy_tasks(), ToySplit(), config, tmp_path / "cut", seed=0, progress=Stop(5))
    whole, resumed = toy_elastic(), toy_elastic()
    train(whole, toy_tasks(), ToySplit(), config, tmp_path / "whole", seed=0)
    train(resumed, toy_tasks(), ToySplit(), config, tmp_path / "cut", seed=0)
    assert same(whole.state(), resumed.state())
    stored = [load_weights(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "cut")]
    assert same(*stored)
    learned = [name for name in stored[0] if name.startswith("features/")]
    assert bool(learned) == (form == "project")
    assert set(load_weights(tmp_path / "whole" / "weights.safetensors")) == set(toy_elastic().state())


def test_projections_are_learned(tmp_path: Path) -> None:
    train(
        toy_elastic(), toy_tasks(), ToySplit(), sandwich_config(epochs=1, feature_distill="project"), tmp_path, seed=0
    )
    stored = load_weights(tmp_path / "checkpoint.safetensors")
    matrices = [tensor for name, tensor in stored.items() if name.startswith("features/")]
    assert all(((tensor != 0) & (tensor != 1)).any() for tensor in matrices)


def test_features_can_be_named_by_hand() -> None:
    elastic = toy_elastic()
    assert feature_modules(elastic) == ("encoder",)
    config = sandwich_config(feature_distill="attention", features=("encoder.stem", "encoder.stages.1"))
    objective = Sandwich(elastic, toy_tasks(), config, seed=0)
    assert objective.features is not None
    assert [found.name for found in objective.features.form.maps] == ["encoder.stem/0", "encoder.stages.1/0"]


# --- what cannot be compared is told ----------------------------------------------------------------------------------


def test_no_shared_part_is_told_with_the_cure() -> None:
    elastic = make_elastic(zoo.build("unusual"), zoo.image(), round_to=4)
    tasks = {"depth": make_task(TaskSpec("depth", "depth", 1))}
    with pytest.raises(ModelError, match="name the modules in train.features, or set train.feature_distill: none"):
        Sandwich(elastic, tasks, sandwich_config(feature_distill="attention"), seed=0)


def test_one_position_says_nothing_about_where() -> None:
    elastic = make_elastic(zoo.build("residual"), zoo.image(side=8), round_to=4)
    with pytest.raises(ModelError, match="several positions, for feature_distill: gram"):
        Sandwich(elastic, {}, sandwich_config(feature_distill="gram"), seed=0)


def test_channels_that_are_not_known_are_refused_for_the_forms_that_need_them() -> None:
    elastic = make_elastic(zoo.build("shared_tower"), zoo.image(), round_to=4)
    with pytest.raises(ModelError, match="tower runs 2 times in one forward"):
        Sandwich(elastic, {}, sandwich_config(feature_distill="slice", features=("tower",)), seed=0)
    tasks = {name: make_task(TaskSpec(name, "normals", 3)) for name in ("near", "far")}
    Sandwich(elastic, tasks, sandwich_config(feature_distill="gram", features=("tower",)), seed=0)


def test_a_module_inside_a_block_that_may_be_left_out_is_refused() -> None:
    rules = SpaceRules(depth=True)
    elastic = make_elastic(depth_zoo.network("resnet"), zoo.image(), round_to=4, rules=rules)
    with pytest.raises(ModelError, match=r"name encoder\.stages\.1\.1 instead"):
        feature_modules(elastic, ("encoder.stages.1.1.first",))
    assert feature_modules(elastic, ("encoder.stages.1.1",)) == ("encoder.stages.1.1",)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"feature_distill": "slices"}, r"did you mean 'slice'\?"),
        ({"feature_distill": "slice", "feature_weight": 0.0}, "a positive number"),
        ({"features": ("encoder",)}, "set train.feature_distill"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], match: str) -> None:
    with pytest.raises(JobError, match=match):
        sandwich_config(**settings)
