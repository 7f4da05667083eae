"""Before and after: which network was delivered, what it costs and how well it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtnas.report.gather import Record, Results

ORDER = ("full", "chosen", "pruned", "int8")


@dataclass(frozen=True)
class Network:
    """One network of the run.

    Args:
        name: `full`, `chosen`, `pruned` or `int8`.
        scores: task -> metric -> value.
        costs: cost -> quantity.
        split: the data behind the scores.
    """

    name: str
    scores: Mapping[str, Mapping[str, Any]]
    costs: Mapping[str, Any]
    split: str


def networks(results: Results) -> dict[str, Network]:
    """Every network with scores on the report split; before verification, those of the search on its own split."""
    if rows := results["verify"].get("table"):
        split = str(results["verify"].get("split", "report"))
        return {str(row["name"]): _verified(row, split) for row in rows}
    found = {}
    for name in ("full", "chosen"):
        if row := results["search"].get(name):
            found[name] = Network(name, row.get("scores") or {}, row.get("costs") or {}, "select")
    if after := results["prune"].get("after"):
        found["pruned"] = Network("pruned", after.get("scores") or {}, after.get("costs") or {}, "select")
    if int8 := results["quantize"].get("scores", {}).get("int8"):
        costs = results["quantize"].get("costs", {}).get("int8") or {}
        found["int8"] = Network("int8", int8, costs, "select")
    return found


def delivered_name(results: Results) -> str:
    """The network whose file is delivered, as far as the run has come."""
    if results["quantize"].get("delivered") == "int8":
        return "int8"
    return str(results["prune"].get("kept") or ("chosen" if results["search"] else ""))


def full_and_delivered(results: Results) -> tuple[Network | None, Network | None]:
    """The two networks that every comparison is between."""
    found = networks(results)
    return found.get("full"), found.get(delivered_name(results))


def _verified(row: Record, split: str) -> Network:
    costs: dict[str, Any] = {}
    if row.get("latency_ms_p50"):
        costs["latency_ms"] = row["latency_ms_p50"]
    if row.get("latency_ms_p95"):
        costs["latency_ms_p95"] = row["latency_ms_p95"]
    for name, unit in (("size_mb", "MB"), ("macs", "MACs"), ("params", "parameters")):
        value = row.get(name)
        if value is not None:
            costs[name] = value if isinstance(value, Mapping) else {"value": value, "unit": unit, "kind": "counted"}
    return Network(str(row["name"]), row.get("scores") or {}, costs, split)
