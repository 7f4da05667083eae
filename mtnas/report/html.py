"""HTML by small functions: text is escaped unless it was made here."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Attrs = Mapping[str, str | int | float | None]
VOID = {"img", "br", "meta", "hr"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def esc(value: object) -> Html:
    """Markup for any value: itself when it is markup, else escaped text."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def join(*children: object) -> Html:
    """Children one after another; None is left out."""
    return Html("".join(esc(child) for child in children if child is not None))


def tag(name: str, attrs: Attrs | None = None, *children: object) -> Html:
    """One element; attributes that are None are left out."""
    shown = "".join(f' {key}="{esc(value)}"' for key, value in (attrs or {}).items() if value is not None)
    return Html(f"<{name}{shown}>") if name in VOID else Html(f"<{name}{shown}>{join(*children)}</{name}>")


def div(css: str, *children: object) -> Html:
    return tag("div", {"class": css}, *children)


def p(*children: object) -> Html:
    return tag("p", None, *children)


def note(*children: object) -> Html:
    """A remark in small grey letters."""
    return tag("p", {"class": "note"}, *children)


def heading(text: object) -> Html:
    return tag("h3", None, text)


def table(caption: str, head: Sequence[object], rows: Iterable[Sequence[object]], numbers_from: int = 1) -> Html:
    """A table that scrolls sideways by itself on narrow screens.

    Args:
        caption: read out by screen readers and shown above.
        head: column titles.
        rows: cells; the first of each row is its title.
        numbers_from: columns from this one on are right-aligned numbers.
    """

    def css(column: int) -> str | None:
        return "num" if column >= numbers_from else None

    titles = join(*(tag("th", {"scope": "col", "class": css(c)}, title) for c, title in enumerate(head)))
    body = []
    for row in rows:
        first = tag("th", {"scope": "row", "class": css(0)}, row[0])
        body.append(tag("tr", None, first, *(tag("td", {"class": css(c)}, v) for c, v in enumerate(row[1:], start=1))))
    parts = (tag("caption", None, caption), tag("thead", None, tag("tr", None, titles)), tag("tbody", None, *body))
    return tag(
        "div", {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": caption}, tag("table", None, *parts)
    )


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """A list of names and values; pairs without a value are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "")]
    wide = {True: "wide", False: None}
    entries = (
        tag("div", {"class": wide[str(value).startswith("<code>")]}, tag("dt", None, name), tag("dd", None, value))
        for name, value in shown
    )
    return tag("dl", {"class": "facts"}, *entries)


def folded(title: str, *children: object) -> Html:
    """Details that open on a click."""
    return tag("details", None, tag("summary", None, title), *children)


def badge(css: str, text: object) -> Html:
    return tag("span", {"class": f"badge {css}"}, text)


def script_json(value: Any) -> Html:
    """JSON that is safe inside a script element: no `<`, `>` or `&`; NaN and infinity become null."""
    text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escape)
    return Html(text)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value
