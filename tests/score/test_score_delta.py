"""Delta conventions against the published table rows that they turn into opposite claims."""

from __future__ import annotations

import pytest

from mtnas.base.errors import JobError
from mtnas.score.delta import CONVENTIONS, delta
from mtnas.tasks.spec import Metric

METRICS = {
    "segmentation": (Metric("miou", "%", True), Metric("pixel_accuracy", "%", True)),
    "depth": (Metric("abs_err", "m", False), Metric("rel_err", "", False)),
    "normals": (
        Metric("mean_angle", "deg", False),
        Metric("median_angle", "deg", False),
        Metric("within_11.25", "%", True),
        Metric("within_22.5", "%", True),
        Metric("within_30", "%", True),
    ),
}


def row(*values: float) -> dict[str, dict[str, float]]:
    numbers = iter(values)
    return {task: {metric.name: next(numbers) for metric in metrics} for task, metrics in METRICS.items()}


SINGLE = row(38.30, 63.76, 0.6754, 0.2780, 25.01, 19.21, 30.14, 57.20, 69.15)
ROWS = {
    "LS": (row(39.29, 65.33, 0.5493, 0.2263, 28.15, 23.96, 22.09, 47.50, 61.08), 5.59, 0.88, 2.90),
    "CAGrad": (row(39.79, 65.49, 0.5486, 0.2250, 26.31, 21.58, 25.61, 52.36, 65.58), 0.19, 4.33, 5.82),
    "Nash-MTL": (row(40.13, 65.93, 0.5261, 0.2171, 25.26, 20.08, 28.40, 55.47, 68.15), -4.05, 7.65, 8.63),
}


@pytest.mark.parametrize("name", ROWS)
def test_published_rows(name: str) -> None:
    scores, flat, task_then_metric, one_metric = ROWS[name]
    got = {convention: delta(scores, SINGLE, METRICS, convention=convention) for convention in CONVENTIONS}
    assert got["flat"] == pytest.approx(flat, abs=0.006)
    assert got["task_then_metric"] == pytest.approx(task_then_metric, abs=0.006)
    assert got["one_metric"] == pytest.approx(one_metric, abs=0.006)
    assert got["avg_drop"] == -got["one_metric"]


def test_sum_in_task() -> None:
    """Two metrics of one task, 4.91 % and 3.65 % worse: their sum."""
    metrics = {"t": (Metric("a", "", True), Metric("b", "", False))}
    scores, reference = {"t": {"a": 100 - 4.91, "b": 103.65}}, {"t": {"a": 100.0, "b": 100.0}}
    assert delta(scores, reference, metrics, convention="sum_in_task") == pytest.approx(-8.56)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_reference_itself_is_zero(convention: str) -> None:
    assert delta(SINGLE, SINGLE, METRICS, convention=convention) == 0


def test_convention_is_required_and_known() -> None:
    with pytest.raises(TypeError):
        delta(SINGLE, SINGLE, METRICS)  # type: ignore[call-arg]
    with pytest.raises(JobError, match="one_metric"):
        delta(SINGLE, SINGLE, METRICS, convention="one_metrics")


def test_what_cannot_be_compared_is_refused() -> None:
    metrics = {"t": (Metric("a", "", True),)}
    for scores, reference in [({"t": {}}, {"t": {"a": 1.0}}), ({"t": {"a": 1.0}}, {"t": {"a": 0.0}}), ({}, {})]:
        with pytest.raises(JobError):
            delta(scores, reference, metrics if scores else {}, convention="flat")
    with pytest.raises(JobError, match="finite"):
        delta({"t": {"a": float("nan")}}, {"t": {"a": 1.0}}, metrics, convention="flat")
