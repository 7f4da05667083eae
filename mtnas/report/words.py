"""How numbers and names are written: metrics, units, and whether a number was measured, predicted or counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtnas.base.groups import units_of
from mtnas.report.gather import Results
from mtnas.report.html import Html, join, tag

#: between a number and its unit, so that no line breaks there
NARROW = "\u00a0"
COSTS: dict[str, tuple[str, str]] = {
    "latency_ms": ("latency", "ms"),
    "size_mb": ("size", "MB"),
    "memory_mb": ("peak memory", "MB"),
    "energy_mj": ("energy", "mJ"),
    "macs": ("multiply-adds", "MACs"),
    "params": ("parameters", "parameters"),
}


@dataclass(frozen=True)
class MetricWords:
    """How one metric is shown."""

    label: str
    unit: str
    higher_is_better: bool


METRICS: dict[str, MetricWords] = {
    "miou": MetricWords("mIoU", "%", True),
    "pixel_accuracy": MetricWords("pixel accuracy", "%", True),
    "abs_err": MetricWords("absolute error", "m", False),
    "rmse": MetricWords("RMSE", "m", False),
    "rel_err": MetricWords("relative error", "%", False),
    "mean_angle": MetricWords("mean angle", "°", False),
    "median_angle": MetricWords("median angle", "°", False),
    "edge_f_dt@1px": MetricWords("edge F (1 px)", "%", True),
    "accuracy": MetricWords("accuracy", "%", True),
    "balanced_accuracy": MetricWords("balanced accuracy", "%", True),
    "mean_ap": MetricWords("mean AP", "%", True),
    "f1": MetricWords("F1", "%", True),
}


def metric_words(name: str) -> MetricWords:
    """The words of a metric; unknown names are shown as they are, errors and angles count as lower-is-better."""
    if name in METRICS:
        return METRICS[name]
    lower = any(word in name.lower() for word in ("err", "angle", "loss", "rmse", "mae"))
    share = name.startswith(("within_", "delta_"))
    label = name.replace("delta_", "δ < ").replace("within_", "within ") + ("°" if name.startswith("within_") else "")
    return MetricWords(label if share else name, "%" if share else "", not lower)


def tasks_of(results: Results) -> tuple[str, ...]:
    """The tasks in the job's order."""
    named = [task.get("name", "") for task in results.job.get("tasks") or () if isinstance(task, Mapping)]
    scores = results["search"].get("full", {}).get("scores") or results["train"].get("scores", {}).get("largest") or {}
    return tuple(str(name) for name in (named or list(scores)))


def channels_per_unit(results: Results) -> dict[str, int]:
    """Group -> channels of a unit, which widths are counted in."""
    return units_of(results["space"].get("groups") or ())


def primary_metric(results: Results, task: str) -> str:
    """The metric by which a task is judged."""
    floor = results["search"].get("floors", {}).get(task, {})
    if floor.get("metric"):
        return str(floor["metric"])
    for head in results["verify"].get("heads") or ():
        if head.get("task") == task and head.get("metric"):
            return str(head["metric"])
    for trial in results.lines("trials")[:1]:
        objective = trial.get("objectives", {}).get(task)
        for name, value in trial.get("scores", {}).get(task, {}).items():
            if objective is not None and value == objective:
                return str(name)
    scores = results["search"].get("full", {}).get("scores", {}).get(task)
    scores = scores or results["train"].get("scores", {}).get("largest", {}).get(task) or {}
    return next((name for name in scores if name in METRICS), next(iter(scores), ""))


def direction(results: Results, task: str) -> bool:
    """Whether a higher primary metric is better."""
    for objective in results["search"].get("objectives") or ():
        if objective.get("name") == task:
            return bool(objective.get("higher_is_better"))
    return metric_words(primary_metric(results, task)).higher_is_better


def number(value: float | None, digits: int = 4, decimals: int = 3) -> str:
    """A few significant digits, thousands grouped, never scientific; small values keep two digits."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, min(digits - 1 - size, max(decimals, 1 - size)))}f}".replace("-", "−")


def large(value: float | None) -> str:
    """Counts with k, M, G."""
    if value is None or not math.isfinite(value):
        return "–"
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{number(value / limit, 3)}{NARROW}{letter}"
    return number(value, 3)


def percent(value: float | None, digits: int = 1, signed: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:{'+' if signed else ''}.{digits}f}{NARROW}%".replace("-", "−")


def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    minutes, rest = divmod(value, 60.0)
    return f"{value:.1f} s" if value < 60 else f"{int(minutes)} min {int(rest):02d} s"


def score(value: float | None, metric: str) -> str:
    """A metric's value with its unit."""
    words = metric_words(metric)
    if value is None:
        return "–"
    text = number(value, 3 if words.unit in {"%", "°"} else 4)
    return text + words.unit if words.unit in {"°", ""} else f"{text}{NARROW}{words.unit}"


def cost(value: float | None, name: str) -> str:
    """A cost's value with its unit."""
    if name in {"macs", "params"}:
        return large(value)
    unit = COSTS.get(name, (name, ""))[1]
    return f"{number(value, 4, 2 if unit == 'MB' else 3)}{NARROW if unit else ''}{unit}"


def better_percent(before: float | None, after: float | None, higher_is_better: bool) -> float | None:
    """How much better `after` is, in percent of `before`; negative when it is worse."""
    if before is None or after is None or not before:
        return None
    change = 100.0 * (after - before) / abs(before)
    return change if higher_is_better else -change


def cost_words(name: str) -> str:
    """A cost's name for people."""
    return COSTS.get(name, (name, ""))[0]


# --- quantities -------------------------------------------------------------------------------------------------------


def value_of(quantity: Any) -> float | None:
    """The number inside a quantity, or a bare number."""
    if isinstance(quantity, Mapping):
        quantity = quantity.get("value")
    return float(quantity) if isinstance(quantity, (int, float)) else None


def kind_of(quantity: Any) -> str:
    return str(quantity.get("kind", "")) if isinstance(quantity, Mapping) else ""


def interval(quantity: Any) -> tuple[float, float] | None:
    if isinstance(quantity, Mapping) and quantity.get("low") is not None and quantity.get("high") is not None:
        return float(quantity["low"]), float(quantity["high"])
    return None


def explain(quantity: Any) -> str:
    """Where a number comes from, in one line for a tooltip."""
    kind = kind_of(quantity)
    if kind == "measured":
        parts = [f"measured, {quantity.get('statistic', 'p50')} of {quantity.get('count', '?')} runs"]
        parts += [f"on {quantity['device']}"] if quantity.get("device") else []
        return " ".join(parts)
    if kind == "predicted":
        return f"predicted, interval at {percent(100 * quantity.get('coverage', 0.9), 0)} coverage"
    return "counted from the network's description" if kind == "counted" else ""


def quantity(given: Any, name: str, with_interval: bool = False) -> Html:
    """A number with its unit, dressed so that measured, predicted and counted cannot be mistaken."""
    text = cost(value_of(given), name)
    kind = kind_of(given)
    if not kind:
        return join(text)
    bounds = interval(given)
    spread = None
    if with_interval and bounds:
        spread = tag("span", {"class": "interval"}, f"{number(bounds[0], 4)} – {number(bounds[1], 4)}")
    shown = f"≈ {text}" if kind == "predicted" else text
    return join(
        tag("span", {"class": f"q {kind}", "title": explain(given)}, shown, tag("sup", {"class": "kind"}, kind[0])),
        spread,
    )
