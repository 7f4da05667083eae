"""The exam of every row of TASKS: gradients, empty targets, distillation, meters that do not see batches."""

from __future__ import annotations

import math

import pytest
import torch

from mtnas.base.errors import JobError
from mtnas.tasks.base import IGNORE, UNLABELLED, Task, TaskSpec, make_task
from mtnas.tasks.table import DEFAULT_WEIGHTS, TASKS

CHANNELS = {
    "segmentation": 5, "depth": 1, "normals": 3, "edges": 1, "classification": 4, "presence": 6, "parts": 5,
    "saliency": 1, "disparity": 1, "attribute": 1, "box": 4,
}  # fmt: skip
N, H, W = 15, 9, 12


def task_of(kind: str) -> Task:
    return make_task(TaskSpec(kind, kind, CHANNELS[kind]))


def outputs_of(kind: str, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (N, CHANNELS[kind], H, W) if task_of(kind).dense else (N, CHANNELS[kind])
    return torch.randn(shape, generator=generator)


def targets_of(kind: str, *, empty: bool = False) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    hole = torch.rand((N, 1, H, W), generator=g) < (2.0 if empty else 0.2)
    if kind in {"segmentation", "parts"}:
        return torch.randint(0, 5, (N, H, W), generator=g).masked_fill(hole[:, 0], IGNORE)
    if kind == "depth":
        return (0.5 + 5 * torch.rand((N, 1, H, W), generator=g)).masked_fill(hole, 0)
    if kind == "disparity":
        return (5 * torch.rand((N, 1, H, W), generator=g)).masked_fill(hole, -1)
    if kind == "normals":
        vectors = torch.nn.functional.normalize(torch.randn((N, 3, H, W), generator=g), dim=1)
        return vectors.masked_fill(hole, 0)
    if kind in {"edges", "saliency"}:
        return (torch.rand((N, 1, H, W), generator=g) < 0.2).float().masked_fill(hole, IGNORE)
    if kind == "classification":
        return torch.randint(0, 4, (N,), generator=g).masked_fill(hole[:, 0, 0, 0], UNLABELLED)
    if kind == "box":
        corners = torch.rand((N, 2, 2), generator=g).sort(dim=1).values.reshape(N, 4)
        return corners.masked_fill(hole[:, 0, 0, :1], math.nan)
    channels = CHANNELS[kind]
    return (torch.rand((N, channels), generator=g) < 0.5).float().masked_fill(hole[:, 0, 0, :channels], IGNORE)


def test_every_row_has_a_weight_and_an_example() -> None:
    assert set(TASKS) == set(DEFAULT_WEIGHTS) == set(CHANNELS)


@pytest.mark.parametrize("kind", TASKS)
def test_words(kind: str) -> None:
    task = task_of(kind)
    assert task.type == kind
    assert task.primary is task.metrics[0]
    assert len({metric.name for metric in task.metrics}) == len(task.metrics)
    assert task.activation in {"softmax", "identity", "l2_normalise", "sigmoid"}
    with pytest.raises(JobError, match="did you mean"):
        make_task(TaskSpec("x", kind + "x", 1))


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_is_a_finite_scalar_that_falls(kind: str, dtype: torch.dtype) -> None:
    task, target = task_of(kind), targets_of(kind)
    output = outputs_of(kind).to(dtype).requires_grad_()
    loss = task.loss(output, target)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.ndim == 0
    assert output.grad is not None and torch.isfinite(output.grad).all() and output.grad.abs().sum() > 0
    step = output.detach().float() - 0.1 * output.grad.float() / output.grad.float().abs().max()
    assert task.loss(step, target) < loss


@pytest.mark.parametrize("kind", TASKS)
def test_nothing_valid_gives_zero_and_no_nan(kind: str) -> None:
    task, target = task_of(kind), targets_of(kind, empty=True)
    output = outputs_of(kind).requires_grad_()
    loss = task.loss(output, target)
    loss.backward()
    assert loss.item() == 0
    assert output.grad is not None and (output.grad == 0).all()
    meter = task.meter()
    assert all(math.isnan(value) for value in meter.compute().values())
    meter.update(output, target)
    assert meter.count == 0 and all(math.isnan(value) for value in meter.compute().values())


@pytest.mark.parametrize("kind", TASKS)
def test_invalid_targets_are_never_read(kind: str) -> None:
    """The loss and metrics do not change when the output changes where the target is invalid."""
    task, target, output = task_of(kind), targets_of(kind), outputs_of(kind)
    invalid = {
        "segmentation": lambda: (target == IGNORE)[:, None],
        "parts": lambda: (target == IGNORE)[:, None],
        "depth": lambda: target == 0,
        "disparity": lambda: target < 0,
        "box": lambda: target.isnan(),
        "normals": lambda: (target == 0).all(1, keepdim=True),
        "classification": lambda: (target == UNLABELLED)[:, None],
    }.get(kind, lambda: target == IGNORE)()
    assert invalid.any()
    moved = torch.where(invalid, output * 3 + 7, output)
    assert torch.allclose(task.loss(moved, target), task.loss(output, target))
    results = []
    for version in (output, moved):
        meter = task.meter()
        meter.update(version, target)
        results.append(meter.compute())
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", TASKS)
def test_distillation_pulls_to_the_teacher(kind: str) -> None:
    task = task_of(kind)
    teacher = outputs_of(kind, seed=3).requires_grad_()
    student = outputs_of(kind).requires_grad_()
    loss = task.distill(student, teacher)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None and torch.isfinite(student.grad).all()
    assert task.distill(teacher, teacher) < loss
    at_optimum = teacher.detach().clone().requires_grad_()
    task.distill(at_optimum, teacher).backward()
    assert at_optimum.grad is not None
    if kind not in {"depth", "disparity"}:
        assert at_optimum.grad.abs().max() < 1e-6


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("batch", [1, 4, 7])
def test_meter_does_not_see_batches(kind: str, batch: int) -> None:
    task, target, output = task_of(kind), targets_of(kind), outputs_of(kind)
    whole, parts = task.meter(), task.meter()
    whole.update(output, target)
    for start in range(0, N, batch):
        parts.update(output[start : start + batch], target[start : start + batch])
    assert parts.compute() == whole.compute()
    assert parts.details() == whole.details()
    assert set(whole.compute()) == {metric.name for metric in task.metrics}


@pytest.mark.parametrize("kind", TASKS)
def test_perfect_output_gets_the_best_value(kind: str) -> None:
    task, target = task_of(kind), targets_of(kind)
    if kind in {"segmentation", "parts", "classification"}:
        clean = target.clamp(0, CHANNELS[kind] - 1)
        output = 20 * torch.nn.functional.one_hot(clean, CHANNELS[kind]).float()
        output = output.movedim(-1, 1)
    elif kind in {"edges", "saliency", "presence", "attribute"}:
        output = torch.where(target == 1, 20.0, -20.0)
    elif kind == "box":
        output = torch.logit(target.nan_to_num(0.5))
    else:
        output = target.clone()
    meter = task.meter()
    meter.update(output, target)
    # the histogram of angles is interpolated inside its first bin of 0.01 degree; boxes come through a float32 logit
    near = {"normals": 0.011, "box": 1e-3}.get(kind, 1e-9)
    for metric in task.metrics:
        best = (100.0 if metric.unit == "%" else math.inf) if metric.higher_is_better else 0.0
        assert meter.compute()[metric.name] == pytest.approx(best, abs=near)


@pytest.mark.parametrize("kind", TASKS)
def test_predict_applies_the_activation(kind: str) -> None:
    task, output = task_of(kind), outputs_of(kind)
    answer = task.predict(output)
    if task.activation == "softmax":
        assert torch.equal(answer, output.softmax(1).argmax(1))
    elif task.activation == "sigmoid":
        assert torch.equal(answer, output.sigmoid())
    elif task.activation == "l2_normalise":
        assert torch.allclose(answer.norm(dim=1), torch.ones(N, H, W))
    else:
        assert torch.equal(answer, output)
