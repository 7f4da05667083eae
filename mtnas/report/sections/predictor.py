"""The predictor: what was compared by cross-validation, which steps it learned, why measuring stopped, other costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtnas.report.figures import ACCENT, QUIET, Trace, axis, figure
from mtnas.report.gather import Record
from mtnas.report.html import Html, badge, folded, heading, join, note, table
from mtnas.report.words import cost_words, number, percent

#: shapes of a regressor begin so; every other score is of a choice of features
_SHAPES = ("non-negative", "ridge")


def render(profile: Record) -> Html:
    """Everything that a profile says of its predictor beside its held-out error; empty for old profiles."""
    predictor = profile.get("predictor") or {}
    shown = [stopping(profile.get("learning") or {}), comparison(predictor), steps(predictor)]
    shown.append(costs(profile.get("costs") or {}))
    return join(*shown)


def comparison(predictor: Record) -> Html:
    """Regressors by cross-validated error, the chosen one marked; the choices of features folded below."""
    scores = predictor.get("scores") or {}
    shapes = {name: error for name, error in scores.items() if name.startswith(_SHAPES)}
    if not shapes:
        return Html("")
    rest = {name: error for name, error in scores.items() if name not in shapes}
    text = (
        "Mean relative error on networks that were left out of the fit, each once in every repeat. A less simple shape "
        "is taken only where it is clearly better. First the linear base is chosen, then what is added to the best one."
    )
    tried = _scores("Regressors by cross-validated error", "regressor", shapes, predictor.get("kind"))
    features = _scores("Features by cross-validated error", "features", rest, predictor.get("columns"))
    return join(heading("Regressors compared"), tried, note(text), folded("Features tried", features) if rest else None)


def steps(predictor: Record) -> Html:
    """Channels per step of every kind of layer, as the predictor learned them."""
    learned = predictor.get("steps") or {}
    if not learned:
        return Html("")
    rows = [(kind, step if step > 1 else "evenly") for kind, step in learned.items()]
    text = "Channels are counted as rounded up to the step: the one that predicts unseen networks best."
    return join(heading("Width steps that the predictor learned"), table("Steps", ("layers", "step"), rows), note(text))


def stopping(learning: Record) -> Html:
    """Why measuring stopped, and what more networks would gain, with the learning curve."""
    networks, values = list(learning.get("networks") or ()), list(learning.get("errors_percent") or ())
    if not networks:
        return Html("")
    trace: Trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": networks,
        "y": values,
        "line": {"color": QUIET, "width": 1.5},
        "marker": {"color": ACCENT, "size": 8},
        "hovertemplate": "%{x} networks<br>error %{y:.2f} %<extra></extra>",
    }
    layout = {
        "xaxis": axis("networks in the fit", {"rangemode": "tozero"}),
        "yaxis": axis("cross-validated error (%)", {"rangemode": "tozero"}),
    }
    gain = f"{learning.get('more')} more networks would take {number(learning.get('gain_percent'), 2)} points off."
    caption = f"Measuring stopped: {learning.get('reason') or 'no reason recorded'}. {gain}"
    return join(
        heading("When it was enough"), figure("Error over the number of networks", [trace], layout, caption, 280)
    )


def costs(found: Mapping[str, Any]) -> Html:
    """Predictors of memory and energy with their errors on held-out networks."""
    if not found:
        return Html("")
    rows = []
    for name, one in found.items():
        held = one.get("held_out") or {}
        verdict = badge("warn", one["doubt"]) if one.get("doubt") else badge("good", "trusted")
        errors = (percent(held.get("mape_percent")), percent(held.get("median_error_percent")))
        rank = number(held["spearman"], 3) if held.get("spearman") is not None else "–"
        rows.append((cost_words(name), one.get("kind", ""), held.get("count", "–"), *errors, rank, verdict))
    head = ("cost", "regressor", "held out", "mean error", "median error", "rank correlation", "")
    return join(heading("Other costs"), table("Predictors of other costs", head, rows))


def _scores(caption: str, first: str, scores: Mapping[str, float], chosen: object) -> Html:
    ordered = sorted(scores.items(), key=lambda item: item[1])
    rows = [(name, percent(error, 2), badge("good", "chosen") if name == chosen else "") for name, error in ordered]
    return table(caption, (first, "error", ""), rows)
