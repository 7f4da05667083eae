"""Prune: widths before and after, the steps, and whether the result was faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtnas.report.figures import ACCENT, LEGEND, QUIET, Trace, axis, figure, plain
from mtnas.report.gather import Record, Results
from mtnas.report.html import Html, badge, facts, folded, join, table, tag
from mtnas.report.sections.train import curve_figure
from mtnas.report.words import (
    better_percent,
    channels_per_unit,
    cost_words,
    direction,
    metric_words,
    number,
    percent,
    primary_metric,
    quantity,
    score,
    tasks_of,
    value_of,
)

VERDICTS = {"faster": "good", "equal": "even", "slower": "bad"}


def render(results: Results) -> Html:
    """Gate, widths, steps, scores, fine-tuning."""
    prune = results["prune"]
    if not prune:
        return Html("")
    per_unit = channels_per_unit(results)
    widths = {
        name: {key: units and units * per_unit.get(name, 1) for key, units in width.items()}
        for name, width in (prune.get("widths") or {}).items()
    }
    steps = prune.get("steps") or ()
    pairs = [
        ("handed on", f"the {prune.get('kept', '?')} network"),
        ("input size", prune.get("size") or "full"),
        ("stopped because", prune.get("stopped_because")),
        (
            "steps tried",
            f"{len(steps)}, {sum(bool(s.get('accepted', True)) for s in steps)} accepted" if steps else "none",
        ),
    ]
    curves = results.lines("finetune") or tuple((prune.get("finetune") or {}).get("curves") or ())
    parts = [gate(prune.get("gate") or {}), facts(pairs), width_figure(widths), width_table(widths)]
    parts += [option_table(results), step_figure(steps, per_unit)]
    parts.append(before_after(results, prune))
    if curves:
        parts.append(folded("Fine-tuning curves", curve_figure(curves, tasks_of(results))))
    return join(*parts)


def gate(verdict: Mapping[str, Any]) -> Html:
    """The never-slower gate in one line."""
    if not verdict:
        return Html("")
    word = str(verdict.get("verdict", ""))
    spread = ""
    if verdict.get("ratio") is not None:
        spread = f" latency after / before {number(verdict['ratio'], 3)}"
        if verdict.get("low") is not None and verdict.get("high") is not None:
            spread += f" (interval {number(verdict['low'], 3)} – {number(verdict['high'], 3)})"
    decision = verdict.get("decision")
    return tag(
        "p",
        {"class": "gate"},
        "Never-slower gate: ",
        badge(VERDICTS.get(word, "plain"), word),
        spread,
        f". {decision[:1].upper()}{decision[1:]}." if decision else "",
    )


def width_figure(widths: Mapping[str, Record]) -> Html:
    """Full, chosen and delivered width of every group that changed."""
    changed = {n: w for n, w in widths.items() if w.get("full") != w.get("pruned") or w.get("full") != w.get("chosen")}
    if not changed:
        return Html("")
    names = [plain(name) for name in reversed(changed)]
    looks = (
        ("full", "full size", "var(--line)", 0.86),
        ("chosen", "chosen", QUIET, 0.86),
        ("pruned", "pruned", ACCENT, 0.44),
    )
    traces: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": title,
            "y": names,
            "x": [changed[name].get(key) for name in reversed(changed)],
            "width": width,
            "marker": {"color": colour},
            "hovertemplate": "%{y}<br>%{x} channels<extra>" + title + "</extra>",
        }
        for key, title, colour, width in looks
    ]
    layout = {
        "barmode": "overlay",
        "xaxis": axis("channels"),
        "yaxis": {"automargin": True, "tickfont": {"size": 11}},
        "legend": LEGEND,
    }
    caption = "Channels of each group: full size, as the search chose it, and after pruning."
    height = 130 + 24 * len(names)
    return figure("Width of every channel group before and after", traces, layout, caption, height)


def width_table(widths: Mapping[str, Record]) -> Html:
    """The same in numbers."""
    rows = []
    for name, width in widths.items():
        full, pruned = width.get("full"), width.get("pruned")
        share = percent(100.0 * pruned / full, 0) if full and pruned is not None else "–"
        rows.append((name, full, width.get("chosen"), pruned, share))
    head = ("group", "full size", "chosen", "pruned", "kept")
    return folded("Widths in numbers", table("Widths of all channel groups", head, rows)) if rows else Html("")


def option_table(results: Results) -> Html:
    """What every fork runs, in the largest network and in the chosen one."""
    chosen = (results["search"].get("chosen") or {}).get("chosen") or {}
    forks = [fork for fork in results["space"].get("forks") or () if not fork.get("refused")]
    rows = [
        (fork["name"], fork["kind"], fork["options"][-1], chosen.get(fork["name"], "nothing: it is left out"))
        for fork in forks
    ]
    head = ("fork", "choice", "largest network", "chosen")
    return table("Operators and experts, before and after", head, rows) if rows else Html("")


def step_figure(steps: Sequence[Record], per_unit: Mapping[str, int]) -> Html:
    """Latency after every pruning step; steps that were taken back are crosses."""
    shown = [
        (number_, step) for number_, step in enumerate(steps, start=1) if value_of(step.get("latency_ms")) is not None
    ]
    if not shown:
        return Html("")
    traces: list[Trace] = []
    for accepted, name, colour, symbol in (
        (True, "kept", ACCENT, "circle"),
        (False, "taken back", QUIET, "x-thin-open"),
    ):
        part = [(at, step) for at, step in shown if bool(step.get("accepted", True)) is accepted]
        trace: Trace = {
            "type": "scatter",
            "mode": "lines+markers" if accepted else "markers",
            "name": name,
            "x": [at for at, _ in part],
            "y": [value_of(step.get("latency_ms")) for _, step in part],
            "text": [_removed(step, per_unit) for _, step in part],
            "hovertemplate": "step %{x}: %{y:.3f} ms<br>%{text}<extra>" + name + "</extra>",
            "line": {"color": colour, "width": 2},
            "marker": {"color": colour, "size": 8, "symbol": symbol, "line": {"width": 1.6, "color": colour}},
        }
        traces += [trace] if part else []
    layout = {"xaxis": axis("step"), "yaxis": axis("latency (ms)"), "legend": LEGEND}
    caption = "Measured latency after each step. A step that does not make the network faster is taken back."
    return figure("Latency after each pruning step", traces, layout, caption, 280)


def before_after(results: Results, prune: Record) -> Html:
    """Chosen against pruned, on the select split."""
    before, after = prune.get("before") or {}, prune.get("after") or {}
    rows: list[tuple[object, ...]] = []
    for task in tasks_of(results):
        metric = primary_metric(results, task)
        old, new = (side.get("scores", {}).get(task, {}).get(metric) for side in (before, after))
        change = better_percent(old, new, direction(results, task))
        label = f"{task}: {metric_words(metric).label}"
        rows.append((label, score(old, metric), score(new, metric), percent(change, signed=True)))
    for name in ("latency_ms", "macs", "params", "size_mb"):
        old, new = before.get("costs", {}).get(name), after.get("costs", {}).get(name)
        if old and new:
            change = better_percent(value_of(old), value_of(new), False)
            rows.append(
                (cost_words(name), quantity(old, name, True), quantity(new, name, True), percent(change, signed=True))
            )
    return table("Chosen and pruned, on the select split", ("", "chosen", "pruned", "better by"), rows)


def _removed(step: Record, per_unit: Mapping[str, int]) -> str:
    removed = step.get("removed")
    if isinstance(removed, Mapping):
        return plain(", ".join(f"{count * per_unit.get(name, 1)} of {name}" for name, count in removed.items()))
    count, group = len(removed) if isinstance(removed, (list, tuple)) else removed, str(step.get("group", "?"))
    return plain(f"{count * per_unit.get(group, 1) if isinstance(count, int) else count} channels of {group}")
