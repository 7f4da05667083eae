"""Delta columns: one number for all tasks, against references that are named, by a convention that is named."""

from __future__ import annotations

from mtnas.report.gather import Results
from mtnas.report.html import Html
from mtnas.report.words import percent, primary_metric, score, tasks_of


def titles(results: Results) -> list[str]:
    """Titles of the columns, each with its convention and sign; none where a run has no references."""
    record = results["references"]
    columns = record.get("columns") or {}
    return [f"{title}, against {record.get('against', '')}" for title in columns.values()]


def cells(results: Results, network: str) -> list[str]:
    """One network's values, in the order of `titles`."""
    record = results["references"]
    values = (record.get("deltas") or {}).get(network) or {}
    return [percent(values.get(convention), 2, signed=True) for convention in record.get("columns") or {}]


def single_task_rows(results: Results) -> list[tuple[str | Html, ...]]:
    """The trained references as a line of the table: scores, no costs, since they are several networks."""
    record = results["references"]
    if record.get("mode") != "train":
        return []
    scores = record.get("scores") or {}
    shown = []
    for task in tasks_of(results):
        metric = primary_metric(results, task)
        shown.append(score(scores.get(task, {}).get(metric), metric))
    blank = [""] * len(titles(results))
    return [("single-task networks", "", "", "", "", *shown, *blank)]


def explained(results: Results) -> str:
    """What the columns mean, and why a value is missing."""
    record = results["references"]
    if not titles(results):
        return ""
    epochs = f", one per task, trained alone for {record['epochs']} epochs" if record.get("epochs") else ""
    text = f" Delta: mean relative change against {record.get('against')}{epochs}; the title says which sign is better."
    reasons = sorted(set((record.get("undefined") or {}).values()))
    return f"{text} Not defined: {'; '.join(reasons)}." if reasons else text
