"""Stage 1: make the model elastic, draw its elastic graph, measure its two ends."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtnas.base.files import write_json
from mtnas.base.groups import Selection
from mtnas.stages.context import RunContext
from mtnas.stages.costs import quick_costs
from mtnas.stages.savings import savings


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `space.json`, `graph/` and, where the job asks for a probe, `stairs.json`; the flow then checks the budget
    against the quick costs."""
    from mtnas.elastic.graph import graph_of
    from mtnas.elastic.summary import size_rows

    elastic = context.elastic
    context.progress.note(str(elastic.summary()))
    graph = graph_of(elastic)
    graph.save(folder / "graph")
    context.graph = graph
    smallest = elastic.selection(elastic.space.smallest)
    result = {
        "schema": "space-stage/1",
        "groups": group_rows(context),
        "blocks": [asdict(block) for block in elastic.blocks],
        **({"forks": [fork.to_json() for fork in elastic.forks]} if elastic.forks else {}),
        "input_sizes": size_rows(elastic.inputs),
        "width_step": {"step": context.width_step, "asked": context.job.space.round_to},
        "log10_size": elastic.space.log10_size,
        "space": elastic.space.to_json(),
        "largest": counted(context, Selection.of({})),
        "smallest": counted(context, smallest),
        "branches": graph.counts(Selection.of({})).branches_json(),
        "savings": savings(elastic, graph),
    }
    costs = quick_costs(context)
    result["quick_costs"] = {name: {key: cost.to_json() for key, cost in row.items()} for name, row in costs.items()}
    write_json(folder / "space.json", result)
    return {"groups": result["groups"], "space": elastic.space.id}


def group_rows(context: RunContext) -> list[dict[str, Any]]:
    """One row per channel group, with its width options where it has a choice; sizes and options count units."""
    from mtnas.elastic.widths import channels_per_unit

    options = {choice.name: list(choice.options) for choice in context.elastic.space.choices}
    return [
        {
            "name": group.name,
            "size": group.size,
            "channels_per_unit": channels_per_unit(group),
            "owners": list(group.owners),
            "frozen": group.frozen,
            "options": options.get(group.name, [group.size]),
        }
        for group in context.elastic.groups
    ]


def counted(context: RunContext, selection: Selection) -> dict[str, float]:
    """Exact counts of a sub-network."""
    counts = context.graph.counts(selection)
    return {"macs": counts.macs, "params": counts.params, "size_mb": counts.size_mb}
