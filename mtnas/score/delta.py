"""Delta-m: the change of a multi-task network against a reference, in percent. Four conventions and two signs exist in
the literature, and one published row can be 5.6 % worse under one and 2.9 % better under another; hence no default.

With r = (M - S) / S, negated where lower is better:

| convention | value | sign |
| --- | --- | --- |
| `one_metric` | mean over tasks of the primary metric's r | + better |
| `avg_drop` | the negative of `one_metric` | + worse |
| `task_then_metric` | mean over tasks of the mean over that task's metrics | + better |
| `flat` | minus the mean over all metrics of all tasks | - better |
| `sum_in_task` | mean over tasks of the sum over that task's metrics | + better |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name
from mtnas.tasks.spec import Metric

CONVENTIONS: dict[str, str] = {
    "one_metric": "delta one_metric [%, + better]",
    "avg_drop": "average drop [%, + worse]",
    "task_then_metric": "delta task_then_metric [%, + better]",
    "flat": "delta flat [%, - better]",
    "sum_in_task": "delta sum_in_task [%, + better]",
}


def delta(
    scores: Mapping[str, Mapping[str, float]],
    reference: Mapping[str, Mapping[str, float]],
    tasks_metrics: Mapping[str, Sequence[Metric]],
    *,
    convention: str,
) -> float:
    """Change against `reference` in percent; `CONVENTIONS[convention]` is its column title, sign included.

    Args:
        scores: `{task: {metric: value}}` of the network.
        reference: the same of the reference, single-task networks as a rule.
        tasks_metrics: the metrics to compare, for each task, its primary metric first.
        convention: a row of `CONVENTIONS`.
    """
    check_name(convention, CONVENTIONS, "delta convention")
    changes = {
        task: [_change(task, metric, scores, reference) for metric in metrics]
        for task, metrics in tasks_metrics.items()
    }
    if not changes or not all(changes.values()):
        raise JobError("at least one task, and one metric for each", received=str(dict(tasks_metrics)), where="delta")
    if convention == "flat":
        return -100.0 * _mean([change for task in changes.values() for change in task])
    if convention == "task_then_metric":
        return 100.0 * _mean([_mean(task) for task in changes.values()])
    if convention == "sum_in_task":
        return 100.0 * _mean([math.fsum(task) for task in changes.values()])
    headline = 100.0 * _mean([task[0] for task in changes.values()])
    return headline if convention == "one_metric" else -headline


def _change(
    task: str,
    metric: Metric,
    scores: Mapping[str, Mapping[str, float]],
    reference: Mapping[str, Mapping[str, float]],
) -> float:
    """Relative change of one metric, positive when better."""
    for what, table in (("scores", scores), ("reference", reference)):
        if metric.name not in table.get(task, {}):
            raise JobError(f"{metric.name} of task {task}", received="nothing", where=f"delta, {what}")
    value, base = scores[task][metric.name], reference[task][metric.name]
    if base == 0 or not math.isfinite(base) or not math.isfinite(value):
        raise JobError(
            "finite metrics and a reference that is not zero",
            received=f"{value:g} against {base:g}",
            where=f"delta, {task} {metric.name}",
        )
    change = (value - base) / abs(base)
    return change if metric.higher_is_better else -change


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
