"""How `pick` and `configure` tell of a network, in the words of the other summaries.

An arch counts units of channel groups. People read channels: a unit is several where a grouped convolution or the heads
of attention tie them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtnas.base.groups import units_of
from mtnas.search.objectives import Objective
from mtnas.space.arch import Arch
from mtnas.stages.folder import RunFolder


def told(run: RunFolder, arch: Arch, objectives: Sequence[Objective]) -> dict[str, Any]:
    """What a record needs beside the arch: `channels` of the groups that have a choice, kept and in all; and `scored`:
    unit and direction of each score."""
    groups = {group["name"]: group for group in run.result("space", "space.json")["groups"]}
    per_unit, channels = units_of(groups.values()), {}
    for name in (name for name in arch.to_json() if name in groups):
        channels[name] = {"kept": int(arch[name]) * per_unit[name], "of": groups[name]["size"] * per_unit[name]}
    return {"channels": channels, "scored": [objective.to_json() for objective in objectives]}


def cost_lines(costs: Mapping[str, Mapping[str, Any]], limits: Mapping[str, float]) -> list[str]:
    """Each cost with its unit, where it comes from, and the limit that was asked for."""
    lines = []
    for name, cost in costs.items():
        limit = f", limit {_amount(limits[name], cost)}" if name in limits else ""
        lines.append(f"  {name} {_amount(cost['value'], cost)} ({cost['kind']}{limit})")
    return lines


def _amount(value: float, cost: Mapping[str, Any]) -> str:
    return f"{value:,.0f}" if cost["unit"] in ("MACs", "parameters") else f"{value:.4g} {cost['unit']}"


def score_line(record: Mapping[str, Any], task: str, value: float, beside: str = "") -> str:
    """A task's score with its unit and direction."""
    objective = next(row for row in record["scored"] if row["name"] == task)
    sign = "(+)" if objective["higher_is_better"] else "(-)"
    return f"  {task} {' '.join(filter(None, (f'{value:.4g}', objective['unit'], sign)))}{beside}"


def arch_lines(record: Mapping[str, Any]) -> list[str]:
    """Channels of every group that has a choice; then depths, options and input size."""
    channels: Mapping[str, Mapping[str, int]] = record["channels"]
    others = [f"{name} {option}" for name, option in record["arch"].items() if name not in channels]
    told_of = [f"{name} {row['kept']} of {row['of']}" for name, row in channels.items()]
    lines = [f"  channels: {', '.join(told_of)}"] if told_of else []
    lines += [f"  others: {', '.join(others)}"] if others else []
    return [*lines, "  (+) higher, (-) lower is better; scores of the select split"]
