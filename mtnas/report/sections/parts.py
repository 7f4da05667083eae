"""Cost where it arises: shared encoder, decoders and glue, and every subset of the tasks; measured, and its error."""

from __future__ import annotations

from mtnas.report.figures import LEGEND, Trace, axis, colours, errors, figure, plain
from mtnas.report.gather import Record, Results
from mtnas.report.html import Html, folded, heading, join, note, table
from mtnas.report.words import large, number, percent, quantity, value_of

SUBSETS_SHOWN = 40


def full(results: Results) -> Html:
    """The full network by itself, in the profile."""
    costs = results["parts"]
    if not costs.get("parts"):
        return Html("")
    return join(heading("Cost where it arises"), part_table("Full network", costs), sum_note(costs), subsets(costs))


def compared(results: Results) -> Html:
    """The delivered network beside the full one."""
    before, after = results["parts"], results["parts_delivered"]
    if not after.get("parts"):
        return Html("")
    shown = [picture({"full size": before, "delivered": after}) if before.get("parts") else None]
    shown += [part_table("Delivered network", after), sum_note(after), subsets(after, before)]
    return join(heading("Cost where it arises"), *shown)


def part_table(caption: str, costs: Record) -> Html:
    """Every part, their sum, and the whole as measured."""
    rows: list[tuple[object, ...]] = []
    for part in costs["parts"]:
        memory = quantity(part.get("memory_mb"), "memory_mb") if part.get("memory_mb") else "–"
        bounds = quantity(part.get("latency_ms"), "latency_ms", True)
        amounts = (quantity(part.get("macs"), "macs"), *(_bytes(part, key) for key in ("weight_bytes", "moved_bytes")))
        rows.append((_words(part), bounds, *amounts, memory))
    whole = (costs.get("subsets") or [{}])[0]
    totals = [sum(value_of(part.get(key)) or 0.0 for part in costs["parts"]) for key in ("macs", "weight_bytes")]
    moved = sum(value_of(part.get("moved_bytes")) or 0.0 for part in costs["parts"])
    counts = (large(totals[0]), _megabytes(totals[1]), _megabytes(moved))
    memory_sum = costs.get("memory_sum_mb")
    rows.append(
        ("sum of parts", _ms(whole.get("sum_ms")), *counts, f"{number(memory_sum, 3)} MB" if memory_sum else "–")
    )
    memory = quantity(costs.get("memory_mb"), "memory_mb") if costs.get("memory_mb") else "–"
    rows.append(("whole, measured", quantity(whole.get("latency_ms"), "latency_ms", True), "", "", "", memory))
    head = ("part", "latency", "multiply-adds", "weights", "bytes moved", "peak memory")
    return table(f"{caption}: cost of each part", head, rows)


def sum_note(costs: Record) -> Html:
    """How well the parts add up."""
    whole = (costs.get("subsets") or [{}])[0]
    error, off = costs.get("error_percent"), whole.get("error_percent")
    measured = len(costs.get("subsets") or ())
    if error is None:
        text = f"{measured} networks were measured, as many as there are parts: the sum is exact by construction."
    else:
        text = (
            f"Parts are told by the differences of {measured} measured networks. "
            f"Their sum is {percent(off, signed=True)} off the whole; the worst network is {percent(error)} off."
        )
    if costs.get("memory_error_percent") is not None:
        text += f" Memory adds up within {percent(costs['memory_error_percent'])}."
    alone = costs.get("shared_alone_ms")
    return (
        note(text, " The shared part alone, as a network of its own: ", _ms(value_of(alone)), ".")
        if alone
        else note(text)
    )


def picture(networks: dict[str, Record]) -> Html:
    """Latency by part, one bar for each network."""
    names = list(dict.fromkeys(str(part["name"]) for costs in networks.values() for part in costs["parts"]))
    colour = colours(names)
    rows = list(reversed(networks))
    traces: list[Trace] = []
    for name in names:
        found: list[Record] = [next((p for p in networks[row]["parts"] if p["name"] == name), {}) for row in rows]
        shares = [part.get("latency_ms") or {"value": 0.0, "low": 0.0, "high": 0.0} for part in found]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": plain(name),
                "y": rows,
                "x": [share["value"] for share in shares],
                "marker": {"color": colour[name]},
                "customdata": [[share["low"], share["high"]] for share in shares],
                "hovertemplate": plain(name)
                + "<br>%{x:.3f} ms (%{customdata[0]:.3f} – %{customdata[1]:.3f})<extra>%{y}</extra>",
            }
        )
    wholes = [(networks[row].get("subsets") or [{}])[0].get("latency_ms") or {} for row in rows]
    values = [value_of(whole) or 0.0 for whole in wholes]
    bars = errors(values, [w.get("low", 0.0) for w in wholes], [w.get("high", 0.0) for w in wholes])
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "whole, measured",
            "y": rows,
            "x": values,
            "error_x": bars | {"color": "var(--text)"},
            "marker": {"color": "var(--text)", "symbol": "line-ns-open", "size": 22},
            "hovertemplate": "whole %{x:.3f} ms<extra>%{y}</extra>",
        }
    )
    layout = {"barmode": "stack", "xaxis": axis("latency (ms)"), "yaxis": {"automargin": True}, "legend": LEGEND}
    caption = (
        "Where the time is spent, measured. The upright line is the whole network; what the bars miss is the error."
    )
    return figure("Latency of each part, full size and delivered", traces, layout, caption, 260)


def subsets(costs: Record, before: Record | None = None) -> Html:
    """Latency of every measured subset of the tasks."""
    known = {tuple(s["tasks"]): s for s in (before or {}).get("subsets") or ()}
    rows = []
    for subset in (costs.get("subsets") or ())[:SUBSETS_SHOWN]:
        old = known.get(tuple(subset["tasks"]))
        cells: list[object] = [quantity(old["latency_ms"], "latency_ms") if old else "–"] if known else []
        cells += [quantity(subset["latency_ms"], "latency_ms", True), _ms(subset.get("sum_ms"))]
        rows.append((", ".join(subset["tasks"]), *cells, percent(subset.get("error_percent"), signed=True)))
    if len(rows) < 2:
        return Html("")
    head = ("tasks", *(("full size", "delivered") if known else ("latency",)), "sum of parts", "off")
    return folded(f"Latency of {len(rows)} subsets of the tasks", table("Latency of subsets of the tasks", head, rows))


def _words(part: Record) -> str:
    kind = part.get("kind")
    if kind == "glue":
        return f"{part['name']} (shared by these)"
    return {"shared": "shared by all", "call": "call overhead"}.get(str(kind), str(part["name"]))


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{number(value, 4)} ms"


def _bytes(part: Record, key: str) -> Html:
    given = part.get(key) or {}
    return quantity({**given, "value": (value_of(given) or 0.0) / 1e6}, "size_mb")


def _megabytes(value: float | None) -> str:
    return "–" if value is None else f"{number(value / 1e6, 3)} MB"
