"""Provenance: machine, versions, seeds, hashes, times, and the commands that make all this again."""

from __future__ import annotations

import datetime

from mtnas.report.gather import Results
from mtnas.report.html import Html, facts, folded, heading, join, note, table, tag
from mtnas.report.words import number, seconds


def render(results: Results) -> Html:
    """Commands first: they are what a reader wants to copy."""
    parts = [heading("Exact commands"), commands(results), heading("Machine and versions"), machine(results)]
    parts += [heading("Time of each stage"), times(results)]
    if results.job_text:
        parts.append(folded("The complete job", tag("pre", None, results.job_text)))
    if results.problems:
        parts.append(note("Files that could not be read: ", "; ".join(results.problems)))
    return join(*parts)


def commands(results: Results) -> Html:
    """The run again from its resolved job; another pick from the same run."""
    name = results.name
    lines = [
        f"mtnas run runs/{name}/job.resolved.yaml --out runs/{name}-again   # the same run again",
        f"mtnas run runs/{name}/job.resolved.yaml --out runs/{name}         # resume or skip what is done",
        f"mtnas report runs/{name}/job.resolved.yaml --out runs/{name}      # this page again",
    ]
    limit = (results["search"].get("limits") or {}).get("latency_ms", {}).get("bound")
    if limit is not None:
        lines.append(f"mtnas pick runs/{name} --latency-ms {number(0.9 * limit, 3)}   # another trade-off, no training")
    return tag("pre", None, "\n".join(lines))


def machine(results: Results) -> Html:
    """What the numbers were made with."""
    record = results["machine"]
    cpu = record.get("cpu") or {}
    memory = record.get("memory_mb")
    pairs = [
        ("processor", cpu.get("model")),
        ("usable cores", cpu.get("cores")),
        ("instruction sets", ", ".join(cpu.get("features") or ())),
        ("memory", f"{number(memory / 1e3, 3)} GB" if memory else None),
        ("frequency governor", record.get("governor")),
        ("system", record.get("system")),
        ("mtnas", record.get("mtnas")),
        ("seed", results.job.get("seed")),
        ("delivered file", _hash(results)),
        ("data", _data(results)),
    ]
    versions = tuple((record.get("versions") or {}).items())
    shown = folded("Versions of packages", table("Versions", ("package", "version"), versions, 9)) if versions else None
    return join(facts(pairs), shown)


def times(results: Results) -> Html:
    """Seconds of each stage, from the run's events."""
    rows, total = [], 0.0
    for event in results.lines("events"):
        if event.get("event") == "end" and event.get("seconds") is not None:
            total += float(event["seconds"])
            at = datetime.datetime.fromtimestamp(float(event.get("time", 0)), datetime.UTC)
            rows.append((event.get("stage", ""), seconds(event["seconds"]), f"{at:%Y-%m-%d %H:%M:%S} UTC"))
    if not rows:
        return note("No stage has ended yet.")
    rows.append((tag("b", None, "together"), seconds(total), ""))
    return table("Time of each stage", ("stage", "time", "ended"), rows)


def _hash(results: Results) -> Html | None:
    found = results["certificate"].get("model_sha256") or results["export"].get("sha256")
    return tag("code", None, found) if found else None


def _data(results: Results) -> str:
    data = results.job.get("data") or {}
    if not data:
        return ""
    made = " (generated scenes; no numbers of a real data set)" if data.get("name") == "scenes" else ""
    return f"{data.get('name', '?')}, {data.get('height', '?')} × {data.get('width', '?')}{made}"
