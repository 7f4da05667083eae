"""Metrics and losses of parts, saliency, disparity, attributes and boxes against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from mtnas.tasks.base import Meter, Task, TaskSpec, make_task
from mtnas.tasks.box import overlaps


def make(kind: str, channels: int = 1) -> Task:
    return make_task(TaskSpec(kind, kind, channels))


def metered(task: Task, output: torch.Tensor, target: torch.Tensor) -> Meter:
    meter = task.meter()
    meter.update(output, target)
    return meter


def logits_of(probability: list[list[float]]) -> torch.Tensor:
    """(B,1,1,W) logits of one line of probabilities for each image."""
    return torch.logit(torch.tensor(probability, dtype=torch.float64), eps=1e-9)[:, None, None].float()


def test_parts_leave_out_images_without_people() -> None:
    """Image 1: truth 0 0 1 1, prediction 0 1 1 1: IoU of background 1/2, of head 2/3; image 2 is all ignored."""
    truth = torch.tensor([[[0, 0, 1, 1]], [[255, 255, 255, 255]]])
    answers = torch.tensor([[[0, 1, 1, 1]], [[3, 3, 3, 3]]])
    output = torch.nn.functional.one_hot(answers, 7).movedim(-1, 1).float()
    values = metered(make("parts", 7), output, truth).compute()
    assert values["miou"] == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)


def test_disparity_values() -> None:
    """Truth 0, 2, hole; prediction 1, 5, 99: a zero is scored, a hole is not."""
    truth = torch.tensor([0.0, 2.0, -1.0]).reshape(1, 1, 1, 3)
    predicted = torch.tensor([1.0, 5.0, 99.0]).reshape(1, 1, 1, 3)
    task = make("disparity")
    assert metered(task, predicted, truth).compute() == {"abs_err": 2.0, "rmse": math.sqrt((1 + 9) / 2)}
    assert task.loss(predicted, truth).item() == pytest.approx(2.0)


def test_saliency_f_is_pooled_over_the_split() -> None:
    """Three salient pixels. Up to 0.5: 2 hits, 1 false, F = 2/3; up to 0.6: 1 hit, 1 false, F = 1.3/6 / (0.15 + 1/3);
    above: 1 hit, nothing false, F = 1.3/3 / (0.3 + 1/3), the best of them."""
    truth = torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 255]])[:, None, None]
    output = logits_of([[0.9, 0.52, 0.01, 0.01], [0.01, 0.62, 0.01, 0.99]])
    assert metered(make("saliency"), output, truth).compute()["max_f"] == pytest.approx(100 * (1.3 / 3) / (0.3 + 1 / 3))


def test_saliency_beta_prefers_precision() -> None:
    """One hit of two, nothing false: P = 1, R = 1/2, F = 1.3 * 0.5 / (0.3 + 0.5)."""
    truth = torch.tensor([[1.0, 1, 0, 0]])[:, None, None]
    output = logits_of([[0.99, 0.01, 0.01, 0.01]])
    assert metered(make("saliency"), output, truth).compute()["max_f"] == pytest.approx(100 * 1.3 * 0.5 / 0.8)


def test_saliency_iou_is_a_mean_over_images() -> None:
    """Image 1 has IoU 1 up to threshold 0.7; image 2 has 1/2: 3/4, not the pooled 3/4 of pixels by chance: 3 of 5."""
    truth = torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 0]])[:, None, None]
    output = logits_of([[0.72, 0.72, 0.01, 0.01], [0.8, 0.8, 0.01, 0.01]])
    assert metered(make("saliency"), output, truth).compute()["max_miou"] == pytest.approx(75.0)
    nothing = metered(make("saliency"), logits_of([[0.01] * 4]), torch.zeros(1, 1, 1, 4)).compute()
    assert nothing["max_miou"] == 100.0 and math.isnan(nothing["max_f"])


def test_saliency_squashes_once() -> None:
    """A probability of 0.3 is below every threshold from 0.35 on; squashed twice it would be 0.57."""
    truth = torch.tensor([[1.0, 0]])[:, None, None]
    meter = metered(make("saliency"), logits_of([[0.3, 0.2]]), truth)
    assert meter.details()["best_threshold"] in (0.25, 0.3)


def test_saliency_loss_balances() -> None:
    """A logit of 0 costs log 2 whatever the share of salient pixels; so does a batch with one side only."""
    for share in (0, 3, 20):
        target = (torch.arange(20) < share).float().reshape(1, 1, 4, 5)
        assert make("saliency").loss(torch.zeros(1, 1, 4, 5), target).item() == pytest.approx(math.log(2), rel=1e-6)


def test_saliency_loss_weighs_the_rarer_side() -> None:
    """One salient pixel of four, badly wrong at logit -2, weighs as much as the three others together."""
    target = torch.tensor([1.0, 0, 0, 0]).reshape(1, 1, 1, 4)
    output = torch.tensor([-2.0, 0, 0, 0]).reshape(1, 1, 1, 4)
    wrong, even = math.log1p(math.exp(2)), math.log(2)
    assert make("saliency").loss(output, target).item() == pytest.approx((wrong + even) / 2, rel=1e-6)


def test_attribute_values() -> None:
    """1 hit, 1 false alarm, 1 miss, 2 right denials, one image without a label."""
    truth = torch.tensor([1.0, 0, 1, 0, 0, 255])[:, None]
    output = torch.tensor([2.0, 2, -2, -2, -2, 2])[:, None]
    assert metered(make("attribute"), output, truth).compute() == {"f1": 50.0, "accuracy": 60.0}
    never = metered(make("attribute"), -torch.ones(2, 1), torch.zeros(2, 1)).compute()
    assert never == {"f1": 0.0, "accuracy": 100.0}


def test_box_overlaps_by_hand() -> None:
    """Two unit-half squares that share a quarter: 1/16 of 7/16; apart: no IoU, and the hull counts against them."""
    a = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]])
    b = torch.tensor([[0.25, 0.25, 0.75, 0.75], [0.5, 0.5, 1.0, 1.0]])
    iou, generalised = overlaps(a, b)
    assert iou.tolist() == pytest.approx([1 / 7, 0])
    assert generalised.tolist() == pytest.approx([1 / 7 - (9 - 7) / 9, -(4 - 2) / 4])


def test_box_values() -> None:
    """IoU 1, 1/7 and one image without a box."""
    truth = torch.tensor([[0.25, 0.25, 0.75, 0.75], [0.25, 0.25, 0.75, 0.75], [math.nan] * 4])
    answer = torch.tensor([[0.25, 0.25, 0.75, 0.75], [1e-7, 1e-7, 0.5, 0.5], [0.1, 0.1, 0.2, 0.2]])
    task = make("box", 4)
    values = metered(task, torch.logit(answer), truth).compute()
    assert values["mean_iou"] == pytest.approx(100 * (1 + 1 / 7) / 2, abs=1e-3)
    assert values["iou_above_0.5"] == 50.0
    generalised = 1 / 7 - 2 / 9
    expected = (0 + 0.25 + 1 - generalised) / 2
    assert task.loss(torch.logit(answer), truth).item() == pytest.approx(expected, rel=1e-5)
