"""Verify: every head of the delivered file, every task before and after, the cost of each branch, pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtnas.report.figures import LEGEND, Trace, axis, colours, figure, plain
from mtnas.report.gather import Record, Results
from mtnas.report.html import Html, badge, div, folded, heading, join, note, table, tag
from mtnas.report.sections import deltas, parts
from mtnas.report.story import networks
from mtnas.report.words import (
    NARROW,
    better_percent,
    direction,
    large,
    metric_words,
    percent,
    primary_metric,
    quantity,
    score,
    tasks_of,
)

PICTURES = 6


def render(results: Results) -> Html:
    """Heads, tasks, branches, pictures."""
    shown = [
        heads(results),
        before_after(results),
        all_metrics(results),
        parts.compared(results),
        branches(results),
        pictures(results),
    ]
    return join(*shown) if results["verify"] else Html("")


def heads(results: Results) -> Html:
    """Numeric agreement of every output with the trained network."""
    rows = []
    for head in results["verify"].get("heads") or ():
        task, metrics = str(head.get("task", "")), head.get("metrics") or {}
        metric = primary_metric(results, task)
        shape = f"{NARROW}×{NARROW}".join(str(size) for size in head.get("shape") or ())
        values = (score(metrics.get(side, {}).get(metric), metric) for side in ("torch", "onnx", "delivered"))
        mark = badge("good", "ok") if head.get("ok") else badge("bad", "failed")
        problems = tag("span", {"class": "interval"}, "; ".join(head["problems"])) if head.get("problems") else None
        error, tolerance = head.get("max_relative_error_float"), head.get("tolerance")
        rows.append(
            (
                task,
                shape,
                _tiny(error),
                _tiny(tolerance),
                *values,
                _floor(head.get("floor"), metric),
                join(mark, problems),
            )
        )
    titles = ("head", "shape", "largest error", "tolerance", "torch", "ONNX float", "delivered", "floor", "")
    parts = (
        heading("Every head of the exported file"),
        table("Heads: torch against the exported file", titles, rows, 2),
    )
    return join(*parts) if rows else Html("")


def before_after(results: Results) -> Html:
    """Each task's primary metric and each cost, for every network of the run."""
    found = networks(results)
    if not results["verify"] or "full" not in found:
        return Html("")
    full, rows = found["full"], []
    for name, network in found.items():
        cells: list[object] = [quantity(network.costs.get("latency_ms"), "latency_ms", True)]
        cells += [quantity(network.costs.get(key), key) for key in ("macs", "params", "size_mb")]
        for task in tasks_of(results):
            metric = primary_metric(results, task)
            old, new = full.scores.get(task, {}).get(metric), network.scores.get(task, {}).get(metric)
            change = better_percent(old, new, direction(results, task))
            small = None if network is full else tag("span", {"class": "interval"}, percent(change, signed=True))
            cells.append(join(score(new, metric), small))
        rows.append((name, *cells, *deltas.cells(results, name)))
    rows += deltas.single_task_rows(results)
    tasks = [f"{task}: {metric_words(primary_metric(results, task)).label}" for task in tasks_of(results)]
    head = ("network", "latency p50", "multiply-adds", "parameters", "size", *tasks, *deltas.titles(results))
    text = "Small numbers: how much better than full size, in percent of it; negative is worse."
    text += deltas.explained(results)
    caption = f"Before and after, on the {full.split} split"
    return join(heading("Before and after"), table(caption, head, rows), note(text))


def all_metrics(results: Results) -> Html:
    """Every metric of every task."""
    found = networks(results)
    rows = []
    for task in tasks_of(results):
        for metric in next(iter(found.values())).scores.get(task, {}) if found else ():
            words = metric_words(metric)
            values = (score(network.scores.get(task, {}).get(metric), metric) for network in found.values())
            rows.append((task, f"{words.label} {'↑' if words.higher_is_better else '↓'}", *values))
    return folded("All metrics", table("All metrics", ("task", "metric", *found), rows, 2)) if rows else Html("")


def branches(results: Results) -> Html:
    """Multiply-adds and parameters of the shared encoder and of each decoder, full size against delivered."""
    verify = results["verify"]
    before = verify.get("branches_full") or results["space"].get("branches") or {}
    after = verify.get("branches") or {}
    if not before or not after:
        return Html("")
    names = [*before, *(name for name in after if name not in before)]
    colour = colours(names)
    plots = []
    for key, title in (("macs", "multiply-adds"), ("params", "parameters")):
        traces: list[Trace] = [
            {
                "type": "bar",
                "orientation": "h",
                "name": plain(name),
                "y": ["delivered", "full size"],
                "x": [after.get(name, {}).get(key, 0), before.get(name, {}).get(key, 0)],
                "marker": {"color": colour[name]},
                "hovertemplate": plain(name) + "<br>%{x:.3s}<extra>%{y}</extra>",
            }
            for name in names
        ]
        layout = {"barmode": "stack", "xaxis": axis(title), "yaxis": {"automargin": True}}
        layout |= {"legend": LEGEND}
        plots.append(
            figure(f"{title} of each branch, full size and delivered", traces, layout, f"{title}, counted", 260)
        )
    rows = [(name, *_branch(before.get(name, {}), after.get(name, {}))) for name in names]
    head = ("branch", "multiply-adds", "delivered", "kept", "parameters", "delivered", "kept")
    return join(heading("Cost of each branch"), div("grid", *plots), table("Cost of each branch, counted", head, rows))


def _branch(before: Record, after: Record) -> list[str]:
    cells = []
    for key in ("macs", "params"):
        old, new = before.get(key), after.get(key)
        share = percent(100.0 * new / old, 0) if old and new is not None else "–"
        cells += [large(old), large(new), share]
    return cells


def pictures(results: Results) -> Html:
    """What the networks see: image, truth, full size, delivered."""
    rows = (results["verify"].get("pictures") or ())[:PICTURES]
    folder = results.folder / "8-verify"
    tasks = [task for task in tasks_of(results) if any(task in row.get("tasks", {}) for row in rows)]
    blocks = [block for task in tasks if (block := _task_pictures(task, rows, folder))]
    return join(heading("Pictures of the report split"), *blocks) if blocks else Html("")


def _task_pictures(task: str, rows: Any, folder: Path) -> Html | None:
    lines = []
    for row in rows:
        paths: Mapping[str, str] = row.get("tasks", {}).get(task) or {}
        shown = [("image", row.get("image")), ("truth", paths.get("truth"))]
        shown += [("full size", paths.get("before")), ("delivered", paths.get("after"))]
        cells = [
            _picture(folder, path, f"{task}, {title}, image {row.get('index')}", title) for title, path in shown if path
        ]
        if any(cells):
            lines.append(div("pictures", *cells))
    return tag("section", {"class": "strip"}, tag("h4", None, task), *lines) if lines else None


def _picture(folder: Path, path: str, text: str, title: str) -> Html | None:
    """A picture inside the page; None when the file is not there or lies outside the folder."""
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()) or not file.is_file():
        return None
    data = base64.b64encode(file.read_bytes()).decode()
    image = tag("img", {"src": f"data:image/png;base64,{data}", "alt": text, "loading": "lazy"})
    return tag("span", {"class": "picture"}, image, tag("small", None, title))


def _floor(bound: float | None, metric: str) -> str:
    return "–" if bound is None else score(bound, metric)


def _tiny(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}" if value else "0"
