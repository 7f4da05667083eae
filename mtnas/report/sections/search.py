"""Search: the measured front, the budget's lines, and the random search that every search must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtnas.report.figures import (
    ACCENT,
    BAD,
    COLOURS,
    GOOD,
    LEGEND,
    QUIET,
    TEXT,
    Trace,
    axis,
    errors,
    figure,
    level,
    plain,
    remark,
    upright,
)
from mtnas.report.fronts import Panel, hover, nondominated, plotted, staircase
from mtnas.report.gather import Record, Results
from mtnas.report.html import Html, badge, div, facts, join, table, tag
from mtnas.report.sections import control
from mtnas.report.words import (
    cost,
    cost_words,
    direction,
    interval,
    kind_of,
    metric_words,
    number,
    primary_metric,
    quantity,
    score,
    tasks_of,
    value_of,
)

RANDOM = COLOURS[1]


def render(results: Results) -> Html:
    """Facts, one plot for each task, hypervolume, and the front as a table."""
    search = results["search"]
    if not search and not results.lines("trials"):
        return Html("")
    trials, random = results.lines("trials"), results.lines("random")
    pairs = [
        ("strategy", search.get("strategy")),
        ("networks evaluated", f"{len(trials)}, and {len(random)} at random for comparison"),
        ("limits", ", ".join(_limit(n, row) for n, row in (search.get("limits") or {}).items()) or "none"),
        ("floors", ", ".join(_floor(task, row) for task, row in (search.get("floors") or {}).items()) or "none"),
        ("on the front", len(search["front"]) if search.get("front") else None),
        ("rank fidelity of the supernet", _fidelity(search.get("rank_fidelity") or {})),
    ]
    panels = [panel_figure(results, panel) for panel in _panels(results)]
    return join(
        facts(pairs),
        legend(),
        div("grid", *panels),
        hypervolume(results),
        front_table(results),
        _rejected(trials),
        control.render(results),
    )


def legend() -> Html:
    """One key for all plots."""
    entries = (
        ("◆", ACCENT, "chosen"),
        ("●", ACCENT, "front, latency measured"),
        ("■", TEXT, "full size"),
        ("○", QUIET, "evaluated, latency predicted"),
        ("●", QUIET, "evaluated, latency measured"),
        ("×", QUIET, "breaks a limit or floor"),
        ("△", RANDOM, "best of the random search"),
        ("┆", BAD, "budget"),
        ("⋯", GOOD, "floor"),
    )
    items = (tag("li", None, tag("b", {"style": f"color:{colour}"}, mark), " ", text) for mark, colour, text in entries)
    return tag("ul", {"class": "key"}, *items)


def panel_figure(results: Results, panel: Panel) -> Html:
    """One task's metric against latency."""
    search, tasks = results["search"], tasks_of(results)
    words = metric_words(panel.metric)
    trials = results.lines("trials")
    kept = [row for row in trials if row.get("feasible")]
    broken = [row for row in trials if not row.get("feasible")]
    best_random = nondominated(results.lines("random"), search.get("objectives") or ())
    front = [row for row in search.get("front") or () if row.get("id") != search.get("chosen", {}).get("id")]
    traces = [
        _cloud(results, plotted(broken, panel), ("breaks a limit or floor", QUIET, "x-thin-open", 6)),
        _cloud(results, plotted(_of_kind(kept, "predicted"), panel), ("evaluated, predicted", QUIET, "circle-open", 6)),
        _cloud(results, plotted(_of_kind(kept, "measured"), panel), ("evaluated, measured", QUIET, "circle", 6)),
        _stairs(plotted(best_random, panel), panel, RANDOM),
        _cloud(results, plotted(best_random, panel), ("random search", RANDOM, "triangle-up-open", 8)),
        _stairs(plotted(search.get("front") or (), panel), panel, ACCENT),
        _cloud(results, plotted(front, panel), ("front", ACCENT, "circle", 9)),
    ]
    for name, colour, symbol, size in (("full", TEXT, "square", 10), ("chosen", ACCENT, "diamond", 15)):
        rows = [search[name]] if search.get(name) else []
        traces.append(_cloud(results, plotted(rows, panel), (name, colour, symbol, size)))
    arrow = "higher" if panel.higher_is_better else "lower"
    unit = f" ({words.unit})" if words.unit else ""
    layout = {
        "xaxis": axis("latency (ms)", {"rangemode": "tozero"}),
        "yaxis": axis(f"{words.label}{unit}"),
        "showlegend": False,
        **_bounds(search, panel),
    }
    caption = f"{panel.task}: {words.label} against latency; {arrow} is better."
    label = f"{panel.task}, {words.label} against latency of {len(tasks)}-task networks"
    return figure(label, [trace for trace in traces if trace["x"]], layout, caption, 340)


def hypervolume(results: Results) -> Html:
    """How fast each strategy filled the space, per evaluation."""
    lines = results["search"].get("hypervolume") or {}
    if not lines:
        return Html("")
    top = max((max(values) for values in lines.values() if values), default=1.0) or 1.0
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": plain(name),
            "x": list(range(1, len(values) + 1)),
            "y": [value / top for value in values],
            "line": {"shape": "hv", "width": 2.5, "color": RANDOM if name == "random" else ACCENT},
        }
        for name, values in lines.items()
    ]
    layout = {
        "xaxis": axis("networks evaluated"),
        "yaxis": axis("hypervolume, share of the best", {"range": [0, 1.05]}),
        "legend": LEGEND,
        "hovermode": "x unified",
    }
    ends = ", ".join(f"{name} {number(values[-1] / top, 3)}" for name, values in lines.items() if values)
    caption = (
        f"Volume that the networks found so far dominate; higher is better. At the end: {ends}. One seed: not claimed."
    )
    return figure("Hypervolume per evaluation of the search and of random search", traces, layout, caption, 300)


def front_table(results: Results) -> Html:
    """The front in numbers; the chosen network is marked."""
    search, tasks = results["search"], tasks_of(results)
    rows = []
    chosen = search.get("chosen", {}).get("id")
    candidates = sorted(
        search.get("front") or (), key=lambda row: value_of(row.get("costs", {}).get("latency_ms")) or 0
    )
    for row in ([search["full"]] if search.get("full") else []) + candidates:
        costs, name = row.get("costs") or {}, tag("code", None, row.get("id", ""))
        mark = badge("accent", "chosen") if row.get("id") == chosen else ""
        mark = badge("plain", "full size") if row is search.get("full") else mark
        metrics = (
            score(
                (row.get("scores") or {}).get(task, {}).get(primary_metric(results, task)),
                primary_metric(results, task),
            )
            for task in tasks
        )
        numbers = (quantity(costs.get(key), key, key == "latency_ms") for key in ("latency_ms", "macs", "size_mb"))
        predicted = quantity(row.get("predicted_latency_ms"), "latency_ms")
        rows.append((join(name, " ", mark), *numbers, predicted, *metrics))
    if not rows:
        return Html("")
    titles = (f"{task}: {metric_words(primary_metric(results, task)).label}" for task in tasks)
    head = ("network", "latency", "multiply-adds", "size", "had been predicted", *titles)
    return table("The front, measured, on the select split", head, rows)


def _panels(results: Results) -> list[Panel]:
    tasks = tasks_of(results)
    return [Panel(task, primary_metric(results, task), direction(results, task)) for task in tasks]


def _of_kind(rows: Sequence[Record], kind: str) -> list[Record]:
    return [row for row in rows if kind_of((row.get("costs") or {}).get("latency_ms")) == kind]


def _cloud(results: Results, points: Sequence[tuple[float, float, Record]], look: tuple[str, str, str, int]) -> Trace:
    """Markers; latencies that were measured carry their interval."""
    name, colour, symbol, size = look
    tasks = tasks_of(results)
    xs = [x for x, _, _ in points]
    trace: Trace = {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": xs,
        "y": [y for _, y, _ in points],
        "text": [hover(results, row, tasks) for _, _, row in points],
        "hovertemplate": "%{text}<extra>" + name + "</extra>",
        "marker": {"color": colour, "symbol": symbol, "size": size, "line": {"width": 1.4, "color": colour}},
    }
    if name in {"front", "chosen", "full"}:
        bounds = [_spread(x, row) for x, _, row in points]
        trace["error_x"] = errors(xs, [low for low, _ in bounds], [high for _, high in bounds]) | {"color": colour}
    return trace


def _spread(x: float, row: Record) -> tuple[float, float]:
    given = (row.get("costs") or {}).get("latency_ms")
    return (interval(given) or (x, x)) if kind_of(given) == "measured" else (x, x)


def _stairs(points: Sequence[tuple[float, float, Record]], panel: Panel, colour: str) -> Trace:
    steps = staircase(points, panel.higher_is_better)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [x for x, _, _ in steps],
        "y": [y for _, y, _ in steps],
        "line": {"shape": "hv", "width": 1.2, "color": colour},
        "hoverinfo": "skip",
    }


def _bounds(search: Mapping[str, Any], panel: Panel) -> dict[str, Any]:
    """The budget as an upright line, the task's floor as a level one."""
    shapes, remarks = [], []
    limit = (search.get("limits") or {}).get("latency_ms", {}).get("bound")
    if limit is not None:
        shapes.append(upright(limit))
        remarks.append(remark(f" budget {cost(limit, 'latency_ms')}", limit, 1.0, BAD, paper="y"))
    floor = (search.get("floors") or {}).get(panel.task, {}).get("bound")
    if floor is not None:
        shapes.append(level(floor, GOOD))
        remarks.append(remark(f"floor {score(floor, panel.metric)}", 1.0, floor, GOOD, paper="x", anchor="right"))
    return {"shapes": shapes, "annotations": remarks}


def _limit(name: str, row: Record) -> str:
    text = row.get("text")
    shown = cost(row.get("bound"), name)
    label = cost_words(name)
    return f"{label} ≤ {shown} ({text})" if text and "%" in str(text) else f"{label} ≤ {shown}"


def _floor(task: str, row: Record) -> str:
    shown = score(row.get("bound"), str(row.get("metric", "")))
    return f"{task} {shown} ({row['text']})" if "%" in str(row.get("text", "")) else f"{task} {shown}"


def _fidelity(record: Mapping[str, Any]) -> str:
    """Whether the supernet ranks networks as training them alone would."""
    if record.get("kendall_tau") is None:
        return "not measured in this run"
    spread = f" ({number(record['low'], 2)} – {number(record['high'], 2)})" if record.get("low") is not None else ""
    return f"Kendall's tau {number(record['kendall_tau'], 2)}{spread} over {record.get('count', '?')} networks"


def _rejected(trials: Sequence[Record]) -> Html:
    """Which limits and floors turned candidates away."""
    counts: dict[str, int] = {}
    for row in trials:
        for name, gap in (row.get("violations") or {}).items():
            counts[name] = counts.get(name, 0) + (1 if gap and gap > 0 else 0)
    found = [f"{cost_words(name)} {count}" for name, count in counts.items() if count]
    text = (
        f"Of {len(trials)} networks, how many broke what: {', '.join(found)}."
        if found
        else "No network broke a limit or a floor."
    )
    return tag("p", {"class": "note"}, text) if trials else Html("")
