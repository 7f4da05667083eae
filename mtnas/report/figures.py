"""Figures as plain plotly descriptions; the page's script draws them in the page's own colours."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from mtnas.report.html import Html, script_json, tag

#: distinguishable for colour-blind readers, on white and on black
COLOURS = ("#3b7dd8", "#e07b39", "#2a9d8f", "#c2508f", "#8a6fd1", "#b8961f", "#5a9e3d", "#d1495b")
SHARED = "var(--muted)"
ACCENT, QUIET, TEXT, GOOD, BAD = "var(--accent)", "var(--quiet)", "var(--text)", "var(--good)", "var(--bad)"

#: above the plot, which makes room for as many lines as it needs
LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}

Trace = dict[str, Any]


def plain(text: object) -> str:
    """Text for a plot: plotly reads tags in labels, and no quotes."""
    return html.escape(str(text), quote=False)


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for every task, in order; the shared part is grey."""
    own = [name for name in names if name != "shared"]
    return {"shared": SHARED} | {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(own)}


def axis(title: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"title": {"text": plain(title), "standoff": 8}, "automargin": True, **(more or {})}


def figure(
    label: str, traces: Sequence[Trace], layout: Mapping[str, Any], caption: object = "", height: int = 340
) -> Html:
    """One figure.

    Args:
        label: what it shows, for people who do not see it.
        traces, layout: plotly's words; colours may be the page's variables such as `var(--accent)`.
        caption: a sentence below.
        height: in pixels.
    """
    data = script_json({"data": list(traces), "layout": dict(layout)})
    plot = tag("div", {"class": "plot", "role": "img", "aria-label": label, "style": f"height:{height}px"})
    below = tag("figcaption", None, caption) if caption else None
    return tag("figure", None, plot, tag("script", {"type": "application/json"}, data), below)


def line(
    x0: float, x1: float, y0: float, y1: float, colour: str, dash: str = "dash", paper: str = ""
) -> dict[str, Any]:
    """A straight line; `paper` names the axis (`x` or `y`) on which 0..1 is the whole width."""
    shape = {
        "type": "line",
        "x0": x0,
        "x1": x1,
        "y0": y0,
        "y1": y1,
        "line": {"color": colour, "dash": dash, "width": 1.5},
    }
    return shape | ({f"{paper}ref": "paper"} if paper else {})


def upright(x: float, colour: str = BAD) -> dict[str, Any]:
    return line(x, x, 0, 1, colour, paper="y")


def level(y: float, colour: str = BAD) -> dict[str, Any]:
    return line(0, 1, y, y, colour, dash="dot", paper="x")


def remark(text: str, x: float, y: float, colour: str, paper: str = "", anchor: str = "left") -> dict[str, Any]:
    """A short text at a place of the plot."""
    shown = {"text": plain(text), "x": x, "y": y, "showarrow": False, "xanchor": anchor, "yanchor": "bottom"}
    shown |= {"font": {"size": 11, "color": colour}}
    return shown | ({f"{paper}ref": "paper"} if paper else {})


def errors(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> dict[str, Any]:
    """Error bars from intervals."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, high in zip(values, highs, strict=True)],
        "arrayminus": [value - low for value, low in zip(values, lows, strict=True)],
        "thickness": 1.2,
        "width": 3,
    }
