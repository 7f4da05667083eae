"""Control: what the dials of budget and preference did, when `mtnas control` has asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtnas.report.figures import COLOURS, LEGEND, Trace, axis, figure, plain
from mtnas.report.gather import Record, Results
from mtnas.report.html import Html, div, heading, join, note, table
from mtnas.report.words import NARROW, cost_words, metric_words, number, percent, primary_metric, score


def render(results: Results) -> Html:
    """Tables by budget and task, and each score against its preference; empty when nothing was asked.

    All tasks of the run first, then each set of tasks that was asked by itself.
    """
    asked = ((results["control"], ""), *((part, ", of networks for {} alone") for part in results.subset_controls))
    return join(*(_part(results, record, words) for record, words in asked if record.get("budgets")))


def _part(results: Results, record: Record, of_whom: str) -> Html:
    rows = record["budgets"]
    tasks = [str(task.get("name")) for task in record.get("tasks") or ()]
    plots = [picture(results, record, task, index) for index, task in enumerate(tasks)]
    return join(
        heading("Control: what the dials do" + of_whom.format(" and ".join(tasks))),
        note(_words(record)),
        div("grid", *plots),
        budgets_table(rows),
        tasks_table(results, rows, tasks),
    )


def picture(results: Results, record: Record, task: str, index: int) -> Html:
    """A task's score against its preference, a line for each budget: the sweep; dots: the fixed set."""
    traces: list[Trace] = []
    for place, row in enumerate(record.get("budgets") or ()):
        colour, name = COLOURS[place % len(COLOURS)], str(row.get("budget"))
        answers = [a for a in record.get("answers") or () if _budget(a) == name and a.get("id")]
        for part, mode, size in ((task, "lines+markers", 7), ("set", "markers", 5)):
            points = sorted((a["preference"][task], a["scores"][task]) for a in answers if a.get("part") == part)
            look = {"color": colour, "size": size, "symbol": "circle" if part == task else "circle-open"}
            traces.append(
                {
                    "type": "scatter",
                    "mode": mode,
                    "name": plain(name),
                    "legendgroup": plain(name),
                    "showlegend": part == task and index == 0,
                    "x": [x for x, _ in points],
                    "y": [y for _, y in points],
                    "line": {"color": colour, "width": 1.8},
                    "marker": look,
                    "hovertemplate": "preference %{x:.2f}<br>%{y:.4g}<extra>" + plain(name) + "</extra>",
                }
            )
    words = metric_words(primary_metric(results, task))
    arrow = "higher" if words.higher_is_better else "lower"
    layout = {
        "xaxis": axis("preference of the task", {"range": [-0.03, 1.03]}),
        "yaxis": axis(words.label + (f" ({words.unit})" if words.unit else "")),
        "legend": LEGEND,
        "showlegend": index == 0,
    }
    caption = f"{task}: {words.label} against its preference at each budget; {arrow} is better. Lines: the sweep."
    label = f"{task}, {words.label} against preference at {len(record.get('budgets') or ())} budgets"
    return figure(label, [trace for trace in traces if trace["x"]], layout, caption, 320)


def budgets_table(rows: Sequence[Record]) -> Html:
    """How good the answers of each budget are together, and how well the budget was used."""
    head = ("budget", "answered", "networks", "hypervolume", "uniformity", "budget error", "beyond the limit")
    return table("At each budget", head, [_budget_row(row) for row in rows])


def _budget_row(row: Record) -> tuple[object, ...]:
    volume: Mapping[str, Any] = row.get("hypervolume") or {}
    shown = number(volume["value"], 3) if volume else "–"
    if volume.get("samples"):
        shown += f" ({number(volume['low'], 3)}{NARROW}–{NARROW}{number(volume['high'], 3)})"
    errors: Mapping[str, Any] = row.get("budget_error") or {}
    used = ", ".join(f"{cost_words(name)} {percent(100 * one['mean'])}" for name, one in errors.items())
    beyond = ", ".join(percent(100 * one["violation_rate"]) for one in errors.values())
    answered = f"{row.get('answered')} of {row.get('asked')}"
    even = row.get("uniformity")
    uniform = "–" if even is None else number(even, 2)
    return row.get("budget", ""), answered, row.get("networks", ""), shown, uniform, used or "–", beyond or "–"


def tasks_table(results: Results, rows: Sequence[Record], tasks: Sequence[str]) -> Html:
    """Whether each task's dial turns the right way, and how far."""
    cells = []
    for row in rows:
        for task in tasks:
            metric = primary_metric(results, task)
            reach: Mapping[str, Any] = (row.get("score") or {}).get(task) or {}
            span = f"{score(reach['low'], metric)} – {score(reach['high'], metric)}" if reach else "–"
            ranks = [(row.get(key) or {}).get(task) for key in ("rank", "sweep_rank")]
            shown = ["–" if rank is None else number(rank, 2) for rank in ranks]
            cells.append((f"{row.get('budget', '')}: {task}", *shown, span))
    head = ("budget and task", "rank correlation", "along the sweep", "lowest – highest score")
    return table("Each task's dial", head, cells)


def _words(record: Record) -> str:
    reference = record.get("reference") or {}
    chosen = "picked from the measured front" if record.get("chooser") == "front" else "configured"
    point = record.get("reference_ratio")
    return (
        f"Networks {chosen} for a fixed set of preferences at each budget, scored on the {record.get('split')} split. "
        f"Hypervolume of loss ratios relative to {reference.get('what')}, up to the reference point {point} in every "
        "task; it grows with the number of points and says nothing without it. Rank correlation (Spearman): 1 where "
        "more preference never makes a task worse. One seed: not claimed."
    )


def _budget(answer: Record) -> str:
    """The budget of an answer as the rows name it."""
    return ", ".join(f"{name}={value}" for name, value in (answer.get("budget") or {}).items()) or "no limit"
