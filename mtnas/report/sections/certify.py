"""Certify: the delivered file against the budget, and every never-slower gate on the way to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtnas.report.gather import Results
from mtnas.report.html import Html, badge, facts, heading, join, note, table, tag
from mtnas.report.sections.prune import VERDICTS
from mtnas.report.words import cost, cost_words, number, percent, quantity

#: where each step's gate was recorded: result file, key, what the step does
GATES = (
    ("prune", "gate", "prune and fine-tune"),
    ("quantize", "fuse", "fold batch-norm"),
    ("quantize", "gate", "quantize to int8"),
    ("exported", "gate", "simplify and export"),
)


def render(results: Results) -> Html:
    """Certificate and gates."""
    return join(certificate(results), gates(results)) if results["certificate"] else Html("")


def certificate(results: Results) -> Html:
    """How the delivered file was measured."""
    record = results["certificate"]
    rows = [
        (
            cost_words(str(limit.get("name", ""))),
            limit.get("statistic", ""),
            quantity(limit.get("measured"), str(limit.get("name")), True),
            quantity(limit.get("predicted"), str(limit.get("name"))) if limit.get("predicted") else "–",
            cost(limit.get("bound"), str(limit.get("name"))),
            badge("good", "met") if limit.get("met") else badge("bad", "refused" if limit.get("refused") else "missed"),
        )
        for limit in record.get("limits") or ()
    ]
    pairs = [
        ("measured in", f"{record.get('processes', '?')} fresh processes"),
        ("A/A resolution", percent(record.get("aa_resolution_percent"), 2)),
        ("device", f"{record.get('device', '?')}, {record.get('runtime', '')}, {record.get('threads', '?')} thread(s)"),
        ("of exactly this file", tag("code", None, record.get("model_sha256", ""))),
    ]
    head = ("limit", "statistic", "measured", "predicted", "at most", "")
    limits = (
        table("Certificate: the delivered file against the budget", head, rows, 2)
        if rows
        else note("No limit was set.")
    )
    return join(heading("Certificate"), limits, facts(pairs))


def gates(results: Results) -> Html:
    """One row for each step that could have made the network slower."""
    rows = [_gate(title, results[file].get(key) or {}) for file, key, title in GATES if results[file].get(key)]
    if not rows:
        return Html("")
    head = ("step", "", "before", "after", "after / before", "told apart above", "decision")
    return join(heading("Never-slower gates"), table("Never-slower gates, measured side by side", head, rows, 2))


def _gate(title: str, record: Mapping[str, Any]) -> tuple[object, ...]:
    verdict, ratio = str(record.get("verdict", "?")), record.get("ratio")
    mark = badge(VERDICTS.get(verdict, "plain"), verdict)
    decision = record.get("decision") or record.get("text", "")
    if ratio is None:
        return (title, mark, "–", "–", "–", "–", decision)
    spread = f"{number(ratio, 3)} ({number(record.get('low'), 3)} – {number(record.get('high'), 3)})"
    times = (quantity(record.get(side), "latency_ms", True) for side in ("before", "after"))
    return (title, mark, *times, spread, percent(record.get("resolution_percent"), 1), decision)
