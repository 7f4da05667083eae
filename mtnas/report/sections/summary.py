"""The first screen: is the budget met, and what did it cost each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtnas.base.budget import Floor
from mtnas.report.gather import Results
from mtnas.report.html import Html, badge, div, join, note, tag
from mtnas.report.story import Network, full_and_delivered
from mtnas.report.words import (
    COSTS,
    better_percent,
    cost,
    cost_words,
    direction,
    interval,
    metric_words,
    number,
    percent,
    primary_metric,
    quantity,
    score,
    tasks_of,
    value_of,
)


def render(results: Results) -> Html:
    """Verdict, costs, tasks; says so when the run has not come far enough."""
    full, delivered = full_and_delivered(results)
    parts: list[Html] = [verdict(results, headline(results, full, delivered))]
    if full and delivered:
        parts.append(div("cards", *cost_cards(results, full, delivered)))
        parts.append(div("cards", *task_cards(results, full, delivered)))
        parts.append(note(_where_from(results, delivered)))
    return join(*parts)


def headline(results: Results, full: Network | None, delivered: Network | None) -> Html:
    """What was won and what it cost, in one sentence."""
    if not full or not delivered:
        return Html("")
    old, new = (value_of(network.costs.get("latency_ms")) for network in (full, delivered))
    if not old or not new:
        return Html("")
    changes: dict[str, float] = {}
    for task in tasks_of(results):
        metric = primary_metric(results, task)
        pair = (full.scores.get(task, {}).get(metric), delivered.scores.get(task, {}).get(metric))
        change = better_percent(*pair, direction(results, task))
        changes |= {task: change} if change is not None else {}
    speed = f"{old / new:.1f}× faster than full size" if new < old else "Not faster than full size"
    if not changes:
        return tag("p", {"class": "headline"}, f"{speed}.")
    task = min(changes, key=lambda name: changes[name])
    return tag(
        "p",
        {"class": "headline"},
        f"{speed}; the task that changed most for the worse is {task}, {_change(changes[task])}.",
    )


def verdict(results: Results, sentence: Html) -> Html:
    """The certificate in one line, or what stands in its place."""
    certificate, failed = results["certificate"], results["failed"]
    if certificate:
        return _certified(results, sentence)
    if failed:
        text = join(
            tag("p", None, failed.get("message", "")), tag("p", None, "Cure: ", failed.get("cure") or "see above")
        )
        return div("verdict missed", tag("h2", None, f"The run stopped in {failed.get('stage', 'a stage')}"), text)
    words = "The run has not reached its certificate; this page shows what there is so far."
    return div("verdict open", tag("h2", None, "Not certified yet"), sentence, tag("p", None, words))


def _certified(results: Results, sentence: Html) -> Html:
    """Budget and verification together: both must hold."""
    certificate, passed = results["certificate"], results["verify"].get("passed")
    limits = certificate.get("limits") or ()
    state = "met" if certificate.get("met") else "refused" if certificate.get("refused") else "missed"
    title = {"met": "Budget met", "missed": "Budget missed", "refused": "Budget not certified"}[state]
    if not limits:
        title, state = "No limit was set", "open"
    if passed is False:
        title, state = f"{title}, verification failed", "missed"
    lines = [limit_line(limit) for limit in limits]
    if passed is not None:
        words = "every head verified, every floor kept" if passed else "a head differs or a floor is missed, see Verify"
        lines.append(tag("li", None, badge("good" if passed else "bad", "✓" if passed else "✗"), " ", words))
    return div(f"verdict {state}", tag("h2", None, title), sentence, tag("ul", None, *lines))


def limit_line(limit: Mapping[str, Any]) -> Html:
    """One limit of the certificate with its measured interval."""
    name = str(limit.get("name", ""))
    met, refused = limit.get("met"), limit.get("refused")
    label = cost_words(name)
    measured, bounds = limit.get("measured") or {}, interval(limit.get("measured"))
    spread = f" (interval {number(bounds[0])} – {number(bounds[1])})" if bounds else ""
    mark = badge("good", "✓") if met else badge("warn", "?") if refused else badge("bad", "✗")
    statistic = f" {limit['statistic']}" if limit.get("statistic") in {"p50", "p95", "p99"} else ""
    return tag(
        "li",
        None,
        mark,
        f" {label}{statistic} ",
        quantity(measured, name),
        spread,
        f" against at most {cost(limit.get('bound'), name)}",
    )


def cost_cards(results: Results, full: Network, delivered: Network) -> list[Html]:
    """Latency, size, multiply-adds, parameters: full against delivered, latencies out of the same rounds.

    The certificate's own number is of another moment; it stands in the verdict, against the limit alone.
    """
    limits = {str(limit.get("name")): limit for limit in results["certificate"].get("limits") or ()}
    bounds = {name: limit.get("bound") for name, limit in (results["search"].get("limits") or {}).items()}
    bounds |= {name: limit.get("bound") for name, limit in limits.items()}
    cards = []
    for name, (label, _unit) in COSTS.items():
        before, after = full.costs.get(name), delivered.costs.get(name)
        old, new = value_of(before), value_of(after)
        if old and new:
            cards.append(_cost_card(label, name, (before, after), bounds.get(name)))
    return cards


def _cost_card(label: str, name: str, pair: tuple[Any, Any], bound: float | None) -> Html:
    before, after = pair
    old, new = value_of(before) or 1.0, value_of(after) or 1.0
    share = 100.0 * new / old
    ticks = [tag("i", {"class": "tick", "style": f"left:{min(100.0, 100.0 * bound / old):.2f}%"})] if bound else []
    bar = div("bar", tag("b", {"style": f"width:{min(100.0, share):.2f}%"}), *ticks)
    times = f"{old / new:.2f}× less" if new < old else f"{new / old:.2f}× more"
    below = f"{times} · {percent(share, 0)} of full" + (f" · limit {cost(bound, name)}" if bound else "")
    return div(
        "card",
        tag("h3", None, label),
        div("big", quantity(after, name)),
        div("was", "full-size ", quantity(before, name)),
        bar,
        div("small", below),
    )


def task_cards(results: Results, full: Network, delivered: Network) -> list[Html]:
    """Each task's primary metric: full against delivered, with its floor."""
    cards = []
    for task in tasks_of(results):
        metric = primary_metric(results, task)
        before, after = full.scores.get(task, {}).get(metric), delivered.scores.get(task, {}).get(metric)
        if before is None or after is None:
            continue
        higher = direction(results, task)
        change = better_percent(before, after, higher)
        floor = _floor(results, task, before, higher)
        kept = floor is None or (after >= floor if higher else after <= floor)
        css = "bad" if not kept else "good" if (change or 0) >= 0 else "even"
        words = metric_words(metric)
        below = f"{words.label}, {'higher' if higher else 'lower'} is better"
        cards.append(
            div(
                "card task",
                tag("h3", None, task),
                div("big", score(after, metric), " ", badge(css, _change(change))),
                div("was", "full-size ", score(before, metric)),
                div(
                    "small",
                    below
                    if floor is None
                    else f"{below} · floor {score(floor, metric)} {'kept' if kept else 'missed'}",
                ),
            )
        )
    return cards


def _change(change: float | None) -> str:
    if change is None:
        return "–"
    return "unchanged" if abs(change) < 0.05 else f"{percent(abs(change))} {'better' if change > 0 else 'worse'}"


def _floor(results: Results, task: str, before: float, higher_is_better: bool) -> float | None:
    """The floor on the data shown; a percent is of the full-size network's score on the same data."""
    for head in results["verify"].get("heads") or ():
        if head.get("task") == task and head.get("floor") is not None:
            return float(head["floor"])
    floor = results["search"].get("floors", {}).get(task) or {}
    if not floor or not results["verify"]:
        return floor.get("bound")
    parsed = Floor.parse(task, floor.get("text") or floor["bound"])
    return parsed.bound(before, higher_is_better)


def _where_from(results: Results, delivered: Network) -> str:
    split = "the report split, by which nothing was chosen" if delivered.split == "report" else "the select split"
    data = results.job.get("data") or {}
    made = " Data: generated scenes, not a real data set." if data.get("name") == "scenes" else ""
    word = "Delivered" if results["export"] else "So far"
    return (
        f"{word}: the {delivered.name} network. Latencies on the cards were measured in the same rounds; the "
        f"certificate's is another measurement, in fresh processes. Task numbers are from {split}. "
        f"One seed ({results.job.get('seed', 0)}): differences are shown, not claimed.{made}"
    )
