"""The page: sections in the order of the flow, one style, one script, one plotly; no address of another file."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mtnas.base.files import write_text
from mtnas.report.gather import Results, gather
from mtnas.report.html import Html, join, tag
from mtnas.report.sections import certify, export, provenance, prune, quantize, search, space, summary, train, verify
from mtnas.report.sections import profile as profile_section

HERE = Path(__file__).parent
PLOT = 'class="plot"'


@dataclass(frozen=True)
class Section:
    """One part of the page: its anchor, its title, a sentence on what it shows, and what makes it."""

    key: str
    title: str
    lead: str
    render: Callable[[Results], Html]


SECTIONS: tuple[Section, ...] = (
    Section("space", "Space", "What may shrink, what may not, and why.", space.render),
    Section("train", "Train", "One set of weights for every network of the space.", train.render),
    Section(
        "profile", "Profile", "The device, and how far its latency predictor can be trusted.", profile_section.render
    ),
    Section("search", "Search", "Networks under the budget, and the front that was really measured.", search.render),
    Section("prune", "Prune", "Channels taken from the chosen network, one measured step at a time.", prune.render),
    Section("quantize", "Quantize", "What runs as int8, what stays in float, and whether it pays.", quantize.render),
    Section("export", "Export", "The file that is delivered.", export.render),
    Section("verify", "Verify", "Exactly that file: every head, every task.", verify.render),
    Section(
        "certify",
        "Certify",
        "Exactly that file against the budget, in fresh processes; no step made it slower.",
        certify.render,
    ),
)


def write_report(run: Path) -> Path:
    """Write `report/index.html` from the result files of a run, however far it has come; returns its path."""
    results = gather(run)
    path = run / "report" / "index.html"
    write_text(path, page(results))
    return path


def page(results: Results) -> str:
    """The whole page as text."""
    sections = [(section, section.render(results)) for section in SECTIONS]
    body = join(
        tag("a", {"class": "skip", "href": "#summary"}, "Skip to the summary"),
        header(results),
        navigation(sections),
        tag(
            "main", None, _summary(results), *(_section(n, *pair) for n, pair in enumerate(sections, 1)), _last(results)
        ),
        tag("footer", None, "Made by mtnas from the result files of this run alone."),
    )
    scripts = join(tag("script", None, _plotly()), tag("script", None, _asset("boot.js"))) if PLOT in body else Html("")
    head = join(
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("title", None, f"{results.name} – mtnas report"),
        tag("style", None, _asset("style.css")),
    )
    html = tag("html", {"lang": "en"}, tag("head", None, head), tag("body", None, body, scripts))
    return f"<!doctype html>\n{html}\n"


def header(results: Results) -> Html:
    """Name, device, date, and how numbers are dressed."""
    profile, machine = results["profile"], results["machine"]
    ended = [float(event["time"]) for event in results.lines("events") if event.get("time")]
    day = f"{datetime.datetime.fromtimestamp(max(ended), datetime.UTC):%d %B %Y}" if ended else ""
    words = [profile.get("device"), profile.get("runtime"), (machine.get("cpu") or {}).get("model"), day]
    kinds = (
        ("measured", "12.3 ms", "read off the device, with its interval"),
        ("predicted", "≈ 12.3 ms", "computed by a fitted predictor"),
        ("counted", "1.23 M", "exact, from the network's description"),
    )
    key = (
        tag(
            "li",
            None,
            tag("span", {"class": f"q {kind}"}, text, tag("sup", {"class": "kind"}, kind[0])),
            f" {kind}: {meaning}",
        )
        for kind, text, meaning in kinds
    )
    return tag(
        "header",
        None,
        tag("p", {"class": "brand"}, "mtnas report"),
        tag("h1", None, results.name),
        tag("p", {"class": "sub"}, " · ".join(str(word) for word in words if word)),
        tag("ul", {"class": "key kinds", "aria-label": "How numbers are shown"}, *key),
    )


def navigation(sections: list[tuple[Section, Html]]) -> Html:
    """One link for each stage, in the flow's order; stages that have not run are pale."""
    links = [tag("a", {"href": "#summary"}, "Summary")]
    for section, body in sections:
        links.append(tag("a", {"href": f"#{section.key}", "class": None if body else "absent"}, section.title))
    links.append(tag("a", {"href": "#provenance"}, "Provenance"))
    return tag("nav", {"aria-label": "Sections"}, *links)


def _section(number: int, section: Section, body: Html) -> Html:
    title = tag("h2", None, tag("span", {"class": "step", "aria-hidden": "true"}, number), section.title)
    shown = body or tag("p", {"class": "absent"}, "Not run.")
    return tag("section", {"id": section.key}, title, tag("p", {"class": "lead"}, section.lead), shown)


def _summary(results: Results) -> Html:
    return tag("section", {"id": "summary"}, summary.render(results))


def _last(results: Results) -> Html:
    lead = tag("p", {"class": "lead"}, "Where these numbers come from, and how to make them again.")
    return tag("section", {"id": "provenance"}, tag("h2", None, "Provenance"), lead, provenance.render(results))


def _asset(name: str) -> Html:
    return Html((HERE / name).read_text(encoding="utf-8"))


def _plotly() -> Html:
    from plotly.offline import get_plotlyjs

    return Html(get_plotlyjs())
