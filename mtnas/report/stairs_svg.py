"""Width steps as one picture that needs nothing else: plain SVG, a panel for each precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtnas.report.figures import COLOURS
from mtnas.report.html import Html, join, tag
from mtnas.report.sections.stairs import KINDS, least

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _RIGHT = 420, 300, 52, 46, 40, 12
_GREY, _DARK = "#98a1ac", "#1c2128"

Record = Mapping[str, Any]
_Point = tuple[float, float]


def stairs_svg(record: Record, title: str) -> str:
    """The picture of a `stairs/1` record."""
    curves = record.get("curves") or ()
    precisions = list(dict.fromkeys(str(curve["precision"]) for curve in curves))
    panels = [
        tag("g", {"transform": f"translate({k * _WIDTH},24)"}, _panel(p, [c for c in curves if c["precision"] == p]))
        for k, p in enumerate(precisions)
    ]
    width, height = _WIDTH * max(1, len(panels)), _HEIGHT + 24
    size: dict[str, str | int | float | None] = {
        "width": width,
        "height": height,
        "viewBox": f"0 0 {width} {height}",
        "role": "img",
        "aria-label": title,
    }
    size |= {"xmlns": "http://www.w3.org/2000/svg", "font-family": "system-ui, sans-serif", "font-size": 11}
    background = tag("rect", {"width": width, "height": height, "fill": "#ffffff"})
    heading = tag("text", {"x": 12, "y": 18, "font-size": 13, "fill": _DARK}, title)
    return f"{tag('svg', size, background, heading, *panels)}\n"


def _panel(precision: str, curves: Sequence[Record]) -> Html:
    most_x = max(max(curve["widths"]) for curve in curves)
    most_y = max(value["value"] for curve in curves for value in curve["ms"]) * 1.05
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(width: float) -> float:
        return round(_LEFT + width / most_x * (right - _LEFT), 1)

    def y(ms: float) -> float:
        return round(bottom - ms / most_y * (bottom - _TOP), 1)

    edges = sorted({edge for curve in curves for edge in curve["stairs"]["edges"]})
    words = "channels (edges of the stairs)" if edges else "channels"
    parts = [_text(_LEFT, _TOP - 26, precision, _DARK, "start"), _text((_LEFT + right) / 2, bottom + 32, words, _DARK)]
    parts += [_line(x(e), _TOP, x(e), bottom, _GREY, "2 3") for e in edges]
    parts += [_text(x(e), bottom + 14, str(e), _DARK) for e in edges or range(16, most_x + 1, 16)]
    parts += [_line(_LEFT, bottom, right, bottom, _DARK), _line(_LEFT, _TOP, _LEFT, bottom, _DARK)]
    levels = [most_y / 1.05 * share for share in (0.25, 0.5, 0.75, 1.0)]
    parts += [_text(_LEFT - 6, y(level) + 4, f"{level:.3g}", _DARK, "end") for level in levels]
    parts.append(_text(_LEFT - 6, _TOP - 8, "ms", _DARK, "end"))
    for k, curve in enumerate(curves):
        points = [(x(w), y(value["value"])) for w, value in zip(curve["widths"], curve["ms"], strict=True)]
        line = [(px, y(ms)) for (px, _), ms in zip(points, least(curve), strict=True)]
        parts.append(_curve(curve, points, line, COLOURS[k % len(COLOURS)]))
        step = f"step {curve['stairs']['step']}" + (", in doubt" if curve["stairs"]["doubt"] else "")
        words = f"{KINDS.get(curve['kind'], curve['kind'])}: {step}"
        parts.append(_text(_LEFT + 8, _TOP + 12 + 14 * k, words, COLOURS[k % len(COLOURS)], "start"))
    return join(*parts)


def _curve(curve: Record, points: Sequence[_Point], line: Sequence[_Point], colour: str) -> Html:
    """A dot for every width, edges open, and the line of the least latency."""
    path = " ".join(f"{px},{py}" for px, py in line)
    parts = [tag("polyline", {"points": path, "fill": "none", "stroke": colour, "stroke-width": 1.5})]
    for width, (px, py) in zip(curve["widths"], points, strict=True):
        edge = width in curve["stairs"]["edges"]
        place = {"cx": px, "cy": py, "r": 4 if edge else 1.8, "stroke-width": 1.5}
        parts.append(tag("circle", {**place, "fill": "#ffffff" if edge else colour, "stroke": colour}))
    return join(*parts)


def _text(x: float, y: float, text: str, colour: str, anchor: str = "middle") -> Html:
    return tag("text", {"x": x, "y": y, "fill": colour, "text-anchor": anchor}, text)


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, dash: str | None = None) -> Html:
    return tag("line", {"x1": x0, "y1": y0, "x2": x1, "y2": y1, "stroke": colour, "stroke-dasharray": dash})
