"""Train: the supernet's losses, and its largest and smallest network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mtnas.report.figures import LEGEND, QUIET, Trace, axis, colours, figure, plain
from mtnas.report.gather import Record, Results
from mtnas.report.html import Html, facts, join, table
from mtnas.report.words import direction, metric_words, number, primary_metric, score, seconds, tasks_of


def render(results: Results) -> Html:
    """Facts, curves, and the two ends of the space."""
    train = results["train"]
    if not train and not results.lines("curves"):
        return Html("")
    rate = train.get("images_per_second")
    pairs = [
        ("epochs", train.get("epochs")),
        ("steps", f"{train['steps']:,}" if train.get("steps") else None),
        ("time", seconds(train.get("seconds")) if train else None),
        ("speed", f"{number(rate, 3)} images/s" if rate else None),
        ("a step", step_words(train)),
        ("arithmetic", train.get("mode") or _arithmetic(train)),
    ]
    curves = results.lines("curves")
    figures = curve_figure(curves, tasks_of(results), whose_losses(train)), score_figure(results, curves)
    return join(facts(pairs), *figures, ends(results))


def step_words(train: Record) -> str | None:
    """What a step computes beside a plain network's."""
    cost = train.get("cost") or {}
    if not cost:
        return None
    networks = f"{number(cost['networks'], 3)} networks in {number(cost['shared_passes'], 3)} encoder passes"
    if cost["networks"] == 1:
        networks = "one network, the next one in the next step"
    return f"{number(cost['ratio'], 3)} times the multiply-adds of a plain network's: {networks}"


def whose_losses(train: Record) -> str:
    """Where networks take turns, losses are of whichever had its turn; else the largest network leads every step."""
    return "all networks in turn" if (train.get("cost") or {}).get("networks") == 1 else "the largest network"


def curve_figure(curves: Sequence[Record], tasks: Sequence[str], whose: str = "the network") -> Html:
    """Loss of every task over the epochs, on a logarithmic scale."""
    if not curves:
        return Html("")
    names = [task for task in tasks if any(task in line.get("losses", {}) for line in curves)]
    names = names or list(curves[-1].get("losses", {}))
    colour = colours(names)
    x = [line.get("epoch", line.get("step")) for line in curves]
    traces = [_line(x, [line.get("total") for line in curves], "total", QUIET, "dot")]
    for name in names:
        traces.append(_line(x, [line.get("losses", {}).get(name) for line in curves], name, colour[name], "solid"))
    layout = {
        "xaxis": axis("epoch"),
        "yaxis": axis(f"loss of {whose}", {"type": "log"} | _log_ticks(traces)),
        "hovermode": "x unified",
        "legend": LEGEND,
    }
    label = f"Training loss over epochs for {', '.join(names)}"
    return figure(label, traces, layout, f"Loss of {whose} on the train split, each task unweighted.")


def score_figure(results: Results, curves: Sequence[Record]) -> Html:
    """Scores that were seen during training, each as a share of the largest network's last one."""
    looks = [line for line in curves if line.get("scores")]
    last = looks[-1]["scores"].get("largest", {}) if len(looks) > 1 else {}
    names = [task for task in tasks_of(results) if last.get(task)]
    if not names:
        return Html("")
    colour, traces = colours(names), list[Trace]()
    x = [line.get("epoch", line["step"]) for line in looks]
    for network, dash in (("largest", "solid"), ("smallest", "dot")):
        for name in names:
            seen = [line["scores"].get(network, {}).get(name) for line in looks]
            y = [None if value is None else 100 * value / last[name] for value in seen]
            traces.append(_line(x, y, f"{name}, {network}", colour[name], dash))
    title = "% of the largest network's last score"
    layout = {"xaxis": axis("epoch"), "yaxis": axis(title), "hovermode": "x unified", "legend": LEGEND}
    label = f"Scores during training for {', '.join(names)}"
    return figure(label, traces, layout, "Primary metrics on a few images of the select split, seen during training.")


def _log_ticks(traces: Sequence[Trace]) -> dict[str, object]:
    """Ticks at 1, 2 and 5 of every power of ten between the smallest and the largest loss, written out."""
    values = [y for trace in traces for y in trace["y"] if y is not None and y > 0]
    if not values:
        return {}
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    ticks = [digit * 10.0**power for power in range(low, high + 1) for digit in (1, 2, 5)]
    return {"tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def ends(results: Results) -> Html:
    """Scores of the largest and of the smallest network of the supernet."""
    scores = results["train"].get("scores") or {}
    rows = []
    for task in tasks_of(results):
        metric = primary_metric(results, task)
        values = [scores.get(end, {}).get(task, {}).get(metric) for end in ("largest", "smallest")]
        arrow = "↑" if direction(results, task) else "↓"
        rows.append((task, f"{metric_words(metric).label} {arrow}", *(score(value, metric) for value in values)))
    head = ("task", "metric", "largest", "smallest")
    return table("Supernet on the select split", head, rows, 2) if scores else Html("")


def _arithmetic(train: Record) -> str:
    parts = [str(train.get("precision") or "")]
    if train.get("channels_last") is not None:
        parts.append("channels last" if train["channels_last"] else "contiguous")
    return ", ".join(part for part in parts if part)


def _line(x: Sequence[object], y: Sequence[object], name: str, colour: str, dash: str) -> Trace:
    style = {"color": colour, "width": 2, "dash": dash}
    return {"type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "name": plain(name), "line": style}
