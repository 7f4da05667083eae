"""The clouds and fronts of the search: what is plotted for each task against latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtnas.report.figures import plain
from mtnas.report.gather import Record, Results
from mtnas.report.words import (
    channels_per_unit,
    cost,
    cost_words,
    interval,
    kind_of,
    metric_words,
    number,
    primary_metric,
    score,
    value_of,
)

WIDTH_LINES = 14


@dataclass(frozen=True)
class Panel:
    """What one plot needs to know about its task."""

    task: str
    metric: str
    higher_is_better: bool


def latency_of(row: Record) -> float | None:
    return value_of((row.get("costs") or {}).get("latency_ms"))


def metric_of(row: Record, panel: Panel) -> float | None:
    """The panel's metric of one network."""
    value = (row.get("scores") or {}).get(panel.task, {}).get(panel.metric)
    return value if value is not None else (row.get("objectives") or {}).get(panel.task)


def plotted(rows: Sequence[Record], panel: Panel) -> list[tuple[float, float, Record]]:
    """(latency, metric, row) of the networks that have both."""
    found = []
    for row in rows:
        x, y = latency_of(row), metric_of(row, panel)
        if x is not None and y is not None:
            found.append((x, y, row))
    return found


def nondominated(rows: Sequence[Record], objectives: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Feasible rows that no other feasible row beats in every objective."""
    losses = []
    for row in rows:
        values = row.get("objectives") or {}
        if row.get("feasible") and all(values.get(o["name"]) is not None for o in objectives):
            losses.append(
                ([-values[o["name"]] if o["higher_is_better"] else values[o["name"]] for o in objectives], row)
            )
    return [row for loss, row in losses if not any(_beats(other, loss) for other, _ in losses)]


def staircase(
    points: Sequence[tuple[float, float, Record]], higher_is_better: bool
) -> list[tuple[float, float, Record]]:
    """The points that no faster point beats in this one metric, fastest first."""
    found: list[tuple[float, float, Record]] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1] if higher_is_better else p[1])):
        if not found or ((point[1] > found[-1][1]) is higher_is_better and point[1] != found[-1][1]):
            found.append(point)
    return found


def hover(results: Results, row: Record, tasks: Sequence[str]) -> str:
    """All that is known of one network, as the lines of a tooltip; the caller escapes nothing further."""
    lines = [f"<b>{plain(row.get('id', ''))}</b>"]
    for name, given in (row.get("costs") or {}).items():
        bounds = interval(given)
        spread = f" ({number(bounds[0])} – {number(bounds[1])})" if bounds else ""
        lines.append(plain(f"{cost_words(name)} {cost(value_of(given), name)}{spread} {kind_of(given)}"))
    if row.get("predicted_latency_ms"):
        lines.append(plain(f"latency predicted {cost(value_of(row['predicted_latency_ms']), 'latency_ms')}"))
    for task in tasks:
        metric = primary_metric(results, task)
        value = (row.get("scores") or {}).get(task, {}).get(metric)
        lines.append(plain(f"{task}: {metric_words(metric).label} {score(value, metric)}"))
    broken = [name for name, gap in (row.get("violations") or {}).items() if gap and gap > 0]
    lines += [plain(f"breaks {', '.join(map(cost_words, broken))}")] if broken else []
    skipped = row.get("skipped") or ()
    lines += [plain(f"left out: {', '.join(skipped)}")] if skipped else []
    chosen = row.get("chosen") or {}
    lines += [plain(f"{fork}: {option}") for fork, option in chosen.items()]
    lines += [plain(f"runs at {row['size']}")] if row.get("size") else []
    return "<br>".join([*lines, *_widths(row, results)])


def _widths(row: Record, results: Results) -> list[str]:
    widths = row.get("widths") or row.get("arch") or {}
    full = {group.get("name"): group.get("size") for group in results["space"].get("groups") or ()}
    shown = [(name, width) for name, width in widths.items() if full.get(name) != width]
    lines = [plain(f"{name}: {_channels(name, width, results)}") for name, width in shown[:WIDTH_LINES]]
    more = len(shown) - WIDTH_LINES
    lines += [f"and {more} more groups"] if more > 0 else []
    return ["<i>channels, where fewer than all</i>", *lines] if lines else []


def _channels(name: str, width: object, results: Results) -> str:
    """Of a group, those that are kept out of all; another choice's option as it is."""
    groups = [group for group in results["space"].get("groups") or () if group.get("name") == name]
    if not groups or not isinstance(width, int):
        return str(width)
    per_unit = channels_per_unit(results)[name]
    return f"{width * per_unit} of {groups[0].get('size', 0) * per_unit}"


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))
