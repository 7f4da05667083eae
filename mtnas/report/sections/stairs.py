"""Width steps: latency over channels as the probe measured it, with the right edges of the stairs marked."""

from __future__ import annotations

from collections.abc import Sequence

from mtnas.report.figures import COLOURS, LEGEND, QUIET, Trace, axis, errors, figure, remark, upright
from mtnas.report.gather import Record, Results
from mtnas.report.html import Html, badge, div, folded, heading, join, note, table
from mtnas.report.words import percent, seconds

KINDS = {"conv3x3": "3×3 convolutions", "conv1x1": "1×1 convolutions", "depthwise3x3": "depthwise convolutions"}


def render(results: Results) -> Html:
    """One figure for each precision, what was found, and the evidence; empty when nothing was probed."""
    stairs, curves = results["stairs"], results["stairs"].get("curves") or ()
    if not curves:
        return Html("")
    precisions = list(dict.fromkeys(str(curve.get("precision")) for curve in curves))
    plots = [picture(p, [curve for curve in curves if curve.get("precision") == p]) for p in precisions]
    used = (results["space"].get("width_step") or {}).get("step")
    text = (
        f"Small chains of equal convolutions, measured in {seconds(stairs.get('seconds'))}. "
        + (f"Widths of this space are multiples of {used}." if used else "")
        + " Dots are measured; the line is the least latency of a network at least as wide. "
        "Open dots are edges: the next wider network costs clearly more."
    )
    return join(
        heading("Width steps of the device"), note(text), div("grid", *plots), folded("Evidence", proof(curves))
    )


def picture(precision: str, curves: Sequence[Record]) -> Html:
    """Latency over channels in one precision, every kind of layer with its edges."""
    traces: list[Trace] = []
    edges: set[int] = set()
    for index, curve in enumerate(curves):
        colour, name = COLOURS[index % len(COLOURS)], _kind(curve)
        marks = set((curve.get("stairs") or {}).get("edges") or ())
        edges |= marks
        widths, values = list(curve.get("widths") or ()), list(curve.get("ms") or ())
        ms = [value["value"] for value in values]
        shared = {"type": "scatter", "x": widths, "legendgroup": name}
        steps = {"mode": "lines", "name": name, "y": least(curve), "hoverinfo": "skip"}
        traces.append(shared | steps | {"line": {"color": colour, "width": 1.5}})
        dots = {"mode": "markers", "name": f"{name}, measured", "y": ms, "showlegend": False}
        marker = {
            "color": colour,
            "size": [10 if width in marks else 5 for width in widths],
            "symbol": ["circle-open" if width in marks else "circle" for width in widths],
        }
        bars = errors(ms, [v["low"] for v in values], [v["high"] for v in values]) | {"color": QUIET}
        hover = {"hovertemplate": "%{x} channels<br>%{y:.4f} ms<extra>" + name + "</extra>"}
        traces.append(shared | dots | hover | {"marker": marker, "error_y": bars})
    layout = {
        "xaxis": axis("channels"),
        "yaxis": axis("latency (ms)", {"rangemode": "tozero"}),
        "shapes": [upright(edge, QUIET) | {"line": {"color": QUIET, "width": 0.7, "dash": "dot"}} for edge in edges],
        "annotations": [remark(str(edge), edge, 1, QUIET, "y", "center") for edge in sorted(edges)],
        "legend": LEGEND | {"y": 1.08},
    }
    label = f"Latency over channels in {precision}"
    return figure(label, traces, layout, f"{precision}: {_found(curves)}", 340)


def least(curve: Record) -> list[float]:
    """The least latency of a network at least as wide: what a width costs when it may be rounded up."""
    values = [value["value"] for value in curve.get("ms") or ()]
    return [min(values[place:]) for place in range(len(values))]


def proof(curves: Sequence[Record]) -> Html:
    """What speaks for each step."""
    rows = []
    for curve in curves:
        stairs = curve.get("stairs") or {}
        mistakes = stairs.get("error_percent") or {}
        doubt = badge("warn", "in doubt") if stairs.get("doubt") else ""
        rises = (stairs.get("rise_percent"), stairs.get("slope_percent"), stairs.get("between_percent"))
        cells = [percent(value, signed=True) for value in rises]
        cells += [percent(mistakes.get(step)) for step in ("4", "8", "16", "32")]
        rows.append((f"{_kind(curve)}, {curve.get('precision')}", stairs.get("step", ""), *cells, doubt))
    tried = ("error: none", "error: 8", "error: 16", "error: 32")
    head = ("layers", "step", "rise at edges", "rise elsewhere", "between fours", *tried, "")
    text = (
        "Rises are for 4 channels. Between fours: what a width that is no multiple of 4 costs more than the next "
        "multiple. Errors: how well a rise that was left out is predicted when stairs of this step are assumed; the "
        "smallest decides."
    )
    return join(table("Stairs: evidence", head, rows), note(text))


def _found(curves: Sequence[Record]) -> str:
    steps = {_kind(curve): (curve.get("stairs") or {}).get("step") for curve in curves}
    words = [f"{kind} in steps of {step}" if step and step > 4 else f"{kind} evenly" for kind, step in steps.items()]
    return ", ".join(words) + "."


def _kind(curve: Record) -> str:
    return KINDS.get(str(curve.get("kind")), str(curve.get("kind")))
