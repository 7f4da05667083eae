"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from mtnas.base.errors import JobError
from mtnas.tasks.base import Meter, Task, TaskSpec, make_task
from mtnas.tasks.presence import average_precision
from mtnas.tasks.table import TASKS


def make(kind: str, channels: int) -> Task:
    return make_task(TaskSpec(kind, kind, channels))


def metered(task: Task, output: torch.Tensor, target: torch.Tensor) -> Meter:
    meter = task.meter()
    meter.update(output, target)
    return meter


def test_miou_over_present_classes() -> None:
    """Truth 0 0 1 1 ignore, prediction 0 2 1 1 1: IoU of 0 is 1/2, of 1 is 1, class 2 is absent from the truth."""
    truth = torch.tensor([[[0, 0, 1, 1, 255]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 2, 1, 1, 1]]]), 3).movedim(-1, 1).float()
    meter = metered(make("segmentation", 3), logits, truth)
    assert meter.compute() == {"miou": 75.0, "pixel_accuracy": 75.0}
    assert meter.details() == {"count": 4.0, "classes_present": 2.0, "iou_0": 50.0, "iou_1": 100.0}


def test_miou_is_pooled_not_a_mean_of_images() -> None:
    """Image 1: 3 of 4 right, image 2: 0 of 4; pooled IoU of the only class is 3/8, whatever the images say."""
    truth = torch.zeros(2, 1, 4, dtype=torch.int64)
    predicted = torch.tensor([[[0, 0, 0, 1]], [[1, 1, 1, 1]]])
    meter = metered(make("segmentation", 2), torch.nn.functional.one_hot(predicted, 2).movedim(-1, 1).float(), truth)
    assert meter.compute()["miou"] == pytest.approx(37.5)


def test_depth_values() -> None:
    """Truth 2, 4, hole; prediction 3, 4.4, 9."""
    truth = torch.tensor([2.0, 4.0, 0.0]).reshape(1, 1, 1, 3)
    predicted = torch.tensor([3.0, 4.4, 9.0]).reshape(1, 1, 1, 3)
    values = metered(make("depth", 1), predicted, truth).compute()
    assert values["abs_err"] == pytest.approx(0.7)
    assert values["rmse"] == pytest.approx(math.sqrt((1 + 0.16) / 2), rel=1e-6)
    assert values["rel_err"] == pytest.approx(100 * (0.5 + 0.1) / 2, rel=1e-6)
    assert [values[f"delta_1.25^{k}"] for k in (1, 2, 3)] == [50.0, 100.0, 100.0]
    assert make("depth", 1).loss(predicted, truth).item() == pytest.approx(0.7)


def test_depth_that_is_not_positive_is_far_off() -> None:
    truth = torch.full((1, 1, 1, 1), 2.0)
    assert metered(make("depth", 1), -truth, truth).compute()["delta_1.25^3"] == 0


def rotated(degrees: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions turned away from (0,0,-1) by the given angles, and the truth."""
    a = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    predicted = torch.stack([a.sin(), 0 * a, -a.cos()]).reshape(1, 3, 1, -1).float()
    truth = torch.tensor([0.0, 0.0, -1.0]).reshape(1, 3, 1, 1).expand(1, 3, 1, len(degrees)).contiguous()
    return predicted, truth


def test_normals_values() -> None:
    predicted, truth = rotated([5.0, 10.0, 20.0, 25.0, 90.0])
    values = metered(make("normals", 3), 4 * predicted, truth).compute()
    assert values["mean_angle"] == pytest.approx(30.0, abs=1e-4)
    assert values["median_angle"] == pytest.approx(20.0, abs=0.01)
    assert (values["within_11.25"], values["within_22.5"], values["within_30"]) == pytest.approx((40, 60, 80))


def test_normals_extremes() -> None:
    """Opposite vectors are 180 degrees apart, a zero vector counts as 90, an invalid target not at all."""
    predicted, truth = rotated([180.0])
    assert metered(make("normals", 3), predicted, truth).compute()["mean_angle"] == pytest.approx(180.0, abs=1e-3)
    assert metered(make("normals", 3), 0 * predicted, truth).compute()["mean_angle"] == pytest.approx(90.0)
    assert metered(make("normals", 3), predicted, 0 * truth).count == 0


def test_normals_median_close_to_numpy() -> None:
    angles = np.abs(np.random.default_rng(0).normal(0, 30, 4001)).clip(0, 180)
    predicted, truth = rotated(angles.tolist())
    median = metered(make("normals", 3), predicted, truth).compute()["median_angle"]
    assert median == pytest.approx(float(np.median(angles)), abs=0.02)


def test_normals_loss_is_a_mean_over_channels() -> None:
    predicted, truth = rotated([90.0])
    assert make("normals", 3).loss(predicted, truth).item() == pytest.approx(2 / 3)
    predicted, truth = rotated([0.0])
    assert make("normals", 3).loss(7 * predicted, truth).item() == pytest.approx(0.0, abs=1e-6)


def logits_of(probability: list[list[float]]) -> torch.Tensor:
    return torch.logit(torch.tensor(probability), eps=1e-6)[None, None]


def test_edges_one_pixel_off_is_right() -> None:
    """A line moved by one pixel scores 100, by two pixels 0."""
    truth = torch.zeros(1, 1, 7, 7)
    truth[..., 3] = 1
    shifted = [torch.full((1, 1, 7, 7), -20.0) for _ in range(2)]
    shifted[0][..., 4], shifted[1][..., 5] = 20, 20
    near, far = (metered(make("edges", 1), output, truth).compute()["edge_f_dt@1px"] for output in shifted)
    assert (near, far) == (100.0, 0.0)


def test_edges_diagonal_neighbour_is_too_far() -> None:
    truth, output = torch.zeros(1, 1, 3, 3), torch.full((1, 1, 3, 3), -20.0)
    truth[..., 1, 1], output[..., 0, 0] = 1, 20.0
    assert metered(make("edges", 1), output, truth).compute()["edge_f_dt@1px"] == 0


def test_edges_best_threshold() -> None:
    """One true pixel at 0.6, a false one at 0.3 far away: above 0.3 all is right, at 0.3 precision is 1/2."""
    truth = torch.zeros(1, 1, 1, 9)
    truth[..., 0] = 1
    meter = metered(make("edges", 1), logits_of([[0.6, 0, 0, 0, 0, 0, 0, 0, 0.3]]), truth)
    assert meter.compute()["edge_f_dt@1px"] == 100.0
    assert 0.3 < meter.details()["best_threshold"] <= 0.6
    swapped = metered(make("edges", 1), logits_of([[0.3, 0, 0, 0, 0, 0, 0, 0, 0.6]]), truth)
    assert swapped.compute()["edge_f_dt@1px"] == pytest.approx(100 * 2 / 3)


def test_edges_loss_balances() -> None:
    """Weights 0.8 and 0.2, normalised: a logit of 0 costs log 2 whatever the share of edges."""
    target = (torch.arange(20) < 3).float().reshape(1, 1, 4, 5)
    assert make("edges", 1).loss(torch.zeros(1, 1, 4, 5), target).item() == pytest.approx(math.log(2), rel=1e-6)


def test_classification_values() -> None:
    """Class 0: 3 of 3 right, class 1: 0 of 1, class 2 absent, one image without a label."""
    truth = torch.tensor([0, 0, 0, 1, -1])
    output = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 0, 2]), 3).float()
    values = metered(make("classification", 3), output, truth).compute()
    assert values == {"accuracy": 75.0, "balanced_accuracy": 50.0}


def test_presence_values() -> None:
    """Class 0 ranks + - + -: AP = (1 + 2/3) / 2; class 1 is always there and does not count."""
    truth = torch.tensor([[1.0, 1], [0, 1], [1, 1], [0, 1]])
    output = torch.tensor([[4.0, 0], [3, 0], [2, 0], [-1, 0]])
    values = metered(make("presence", 2), output, truth).compute()
    assert values["mean_ap"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert values["f1"] == pytest.approx(100 * 2 * 2 / (3 + 2))


def test_average_precision_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        score, truth = rng.integers(0, 6, 40) / 5, rng.random(40) < 0.4
        assert average_precision(score, truth) == pytest.approx(average_precision_score(truth, score))


@pytest.mark.parametrize(("kind", "channels"), [("depth", 2), ("normals", 1), ("edges", 3)])
def test_wrong_channels(kind: str, channels: int) -> None:
    with pytest.raises(JobError, match="channel"):
        make(kind, channels)


def test_specs_are_checked_and_survive_json() -> None:
    spec = TaskSpec("sem", "segmentation", 2, 0.5, ("a", "b"))
    assert TaskSpec.from_json(spec.to_json()) == spec
    with pytest.raises(JobError, match="2 class names"):
        TaskSpec("sem", "segmentation", 2, class_names=("a",))
    with pytest.raises(JobError, match="weight"):
        TaskSpec("sem", "segmentation", 2, weight=-1.0)
    assert "segmentation" in TASKS
