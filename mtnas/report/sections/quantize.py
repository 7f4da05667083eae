"""Quantize: what really runs as int8, what stayed in float and why, and whether it paid."""

from __future__ import annotations

from mtnas.report.gather import Results
from mtnas.report.html import Html, badge, facts, folded, join, table, tag
from mtnas.report.sections.prune import gate
from mtnas.report.words import (
    better_percent,
    cost_words,
    direction,
    metric_words,
    percent,
    primary_metric,
    quantity,
    score,
    tasks_of,
    value_of,
)


def render(results: Results) -> Html:
    """Decision, nodes, float against int8."""
    record = results["quantize"]
    if not record:
        return Html("")
    floats = record.get("float_nodes") or ()
    delivered = str(record.get("delivered", "?"))
    decision = tag("p", {"class": "gate"}, "Handed on: ", badge("accent", delivered), f" {record.get('reason', '')}")
    pairs = [
        ("dialect", record.get("dialect")),
        ("nodes that run as int8", record.get("int8_nodes")),
        ("nodes that stay in float", len(floats)),
        ("conversions between both", record.get("conversions")),
    ]
    rows = [(node.get("name", ""), node.get("op", ""), node.get("why", "")) for node in floats]
    title = f"The {len(rows)} nodes that stay in float, and why"
    nodes = folded(title, table("Nodes in float", ("node", "operator", "why"), rows, 9)) if rows else Html("")
    return join(decision, gate(record.get("gate") or {}), facts(pairs), nodes, comparison(results))


def comparison(results: Results) -> Html:
    """Float against int8, on the select split."""
    record = results["quantize"]
    scores, costs = record.get("scores") or {}, record.get("costs") or {}
    if "int8" not in scores:
        return Html("")
    rows: list[tuple[object, ...]] = []
    for task in tasks_of(results):
        metric = primary_metric(results, task)
        old, new = (scores.get(side, {}).get(task, {}).get(metric) for side in ("float", "int8"))
        change = better_percent(old, new, direction(results, task))
        rows.append(
            (
                f"{task}: {metric_words(metric).label}",
                score(old, metric),
                score(new, metric),
                percent(change, signed=True),
            )
        )
    for name in ("latency_ms", "size_mb", "memory_mb"):
        old, new = (costs.get(side, {}).get(name) for side in ("float", "int8"))
        if old and new:
            change = better_percent(value_of(old), value_of(new), False)
            rows.append(
                (cost_words(name), quantity(old, name, True), quantity(new, name, True), percent(change, signed=True))
            )
    return table("Float and int8, on the select split", ("", "float", "int8", "better by"), rows)
