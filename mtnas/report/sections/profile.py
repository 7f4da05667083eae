"""Profile: the device, and how far its latency predictor can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from mtnas.report.figures import ACCENT, LEGEND, QUIET, Trace, axis, errors, figure, line
from mtnas.report.gather import Record, Results
from mtnas.report.html import Html, badge, facts, join, note, table, tag
from mtnas.report.sections import parts
from mtnas.report.sections import predictor as predictors
from mtnas.report.words import number, percent, quantity


def render(results: Results) -> Html:
    """Device, held-out error, calibration plot."""
    profile = results["profile"]
    if not profile:
        return Html("")
    predictor = profile.get("predictor") or {}
    held = predictor.get("held_out") or {}
    pairs = [
        ("device", profile.get("device")),
        ("runtime", profile.get("runtime")),
        ("threads", profile.get("threads")),
        ("precision", profile.get("precision")),
        ("sub-networks measured", _measured(profile)),
        ("runs that were outliers", _outliers(profile.get("outliers") or {})),
        ("A/A resolution", _percent(profile.get("aa_resolution_percent"), 2)),
        ("largest network", quantity(profile.get("largest"), "latency_ms", True) if profile.get("largest") else None),
        (
            "smallest network",
            quantity(profile.get("smallest"), "latency_ms", True) if profile.get("smallest") else None,
        ),
    ]
    errors_held = [
        ("predictor", predictor.get("kind")),
        ("networks never seen in fitting", held.get("count")),
        ("rank correlation (Spearman)", number(held["spearman"], 3) if held.get("spearman") is not None else None),
        ("mean error", _percent(held.get("mape_percent"), 2)),
        ("median error", _percent(held.get("median_error_percent"), 2)),
        ("within 10 % of the truth", _percent(held.get("within_10_percent"), 0)),
        ("intervals that hold the truth", _percent(held.get("coverage_percent"), 0)),
    ]
    aa = note("A/A resolution: the difference that this machine shows between two copies of one file.")
    trusted = (trust(predictor), facts(errors_held), calibration(predictor.get("points") or ()))
    return join(facts(pairs), aa, untrusted(profile), *trusted, predictors.render(profile), parts.full(results))


def _measured(profile: Record) -> str | None:
    if profile.get("measured") is None:
        return None
    unstable = f", {profile['unstable']} of them unstable" if profile.get("unstable") else ""
    return f"{profile['measured']}{unstable}"


def _outliers(totals: Record) -> str | None:
    """Such as `12 of 4,800 (0.25 %), 9 of them interrupted`."""
    if not totals.get("runs"):
        return None
    interrupted = f", {totals['interrupted']:,} of them interrupted" if totals.get("interrupted") else ""
    return f"{totals['count']:,} of {totals['runs']:,} ({percent(totals.get('share_percent'), 2)}){interrupted}"


def untrusted(profile: Record) -> Html | None:
    """What the machine's state said against the numbers, with how many networks it concerns."""
    found = profile.get("untrusted") or {}
    if not found.get("networks"):
        return None
    rows = [(reason.get("example"), reason.get("networks")) for reason in found.get("reasons") or ()]
    line = f" The machine's state speaks against {found['networks']} of {profile.get('measured')} measured networks."
    return join(
        tag("p", {"class": "gate"}, "Measurements: ", badge("warn", "not all trusted"), line),
        table("Why", ("what the machine said, for example", "networks"), rows),
    )


def trust(predictor: Record) -> Html:
    """Whether the search relied on the predictor, and why not."""
    if predictor.get("trustworthy") is None:
        return Html("")
    if predictor["trustworthy"]:
        return tag("p", {"class": "gate"}, "Predictor: ", badge("good", "trusted"), " the search relied on it.")
    doubt = f" {predictor.get('doubt') or ''}: candidates were measured instead."
    return tag("p", {"class": "gate"}, "Predictor: ", badge("warn", "not trusted"), doubt)


def calibration(points: Sequence[Record]) -> Html:
    """Predicted against measured latency, with the predictor's intervals."""
    if not points:
        return Html("")
    top = max(max(point.get("measured", 0), point.get("high", point.get("predicted", 0))) for point in points) * 1.05
    traces: list[Trace] = []
    for held, name in ((False, "used in fitting"), (True, "held out")):
        part = [point for point in points if bool(point.get("held_out")) is held]
        if part:
            traces.append(_points(part, name, held))
    layout = {
        "xaxis": axis("measured latency (ms)", {"range": [0, top]}),
        "yaxis": axis("predicted latency (ms)", {"range": [0, top]}),
        "shapes": [line(0, top, 0, top, QUIET, dash="dash")],
        "legend": LEGEND,
    }
    caption = "On the dashed line the prediction is exact. Bars: the predictor's interval. Full dots were held out."
    return figure("Predicted against measured latency of sub-networks", traces, layout, caption, 380)


def _points(points: Sequence[Record], name: str, held: bool) -> Trace:
    predicted = [point["predicted"] for point in points]
    lows = [point.get("low", point["predicted"]) for point in points]
    highs = [point.get("high", point["predicted"]) for point in points]
    colour = ACCENT if held else QUIET
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [point["measured"] for point in points],
        "y": predicted,
        "error_y": errors(predicted, lows, highs) | {"color": colour},
        "marker": {"color": colour, "size": 9 if held else 7, "symbol": "circle" if held else "circle-open"},
        "hovertemplate": "measured %{x:.3f} ms<br>predicted %{y:.3f} ms<extra>" + name + "</extra>",
    }


def _percent(value: float | None, digits: int) -> str | None:
    return None if value is None else percent(value, digits)
