"""What a sub-network costs: counted exactly, measured on the device, or predicted with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from mtnas.base.errors import DeviceMissing
from mtnas.base.groups import Selection
from mtnas.base.quantity import Counted, Measured, Predicted
from mtnas.search.trial import cost_from_json
from mtnas.stages.context import RunContext

if TYPE_CHECKING:
    from mtnas.graph.elastic_graph import ElasticGraph

Cost = Measured | Predicted | Counted


def counted_costs(context: RunContext, selection: Selection) -> dict[str, Cost]:
    """Multiply-adds, parameters and megabytes of the float32 file."""
    return counted_costs_of(context.graph, selection)


def counted_costs_of(graph: ElasticGraph, selection: Selection) -> dict[str, Cost]:
    """The same for any elastic graph.

    The size is that of the float file as it would be delivered: its arrays, counted, and its nodes and names, which are
    the same few kilobytes in every sub-network and taken from the largest. An int8 file is smaller, but whether int8 is
    delivered is not known while searching: a limit that the float file keeps holds either way.
    """
    counts = graph.counts(selection)
    return {
        "macs": Counted(float(counts.macs), "MACs"),
        "params": Counted(float(counts.params), "parameters"),
        "size_mb": Counted(float(counts.size_mb) + _nodes_mb(graph), "MB"),
    }


@lru_cache(maxsize=8)
def _nodes_mb(graph: ElasticGraph) -> float:
    """What the largest network's file holds beside its arrays."""
    everything = Selection.of({})
    return len(graph.cut(everything).SerializeToString()) / 1e6 - graph.counts(everything).size_mb


def measured_costs(
    context: RunContext, selections: Mapping[str, Selection], *, anchor_ms: float | None = None
) -> dict[str, dict[str, Cost]]:
    """Counted costs and measured latency, all networks interleaved in one go; memory and energy when limited.

    Args:
        context: the run.
        selections: the networks by name.
        anchor_ms: the anchor's latency when the profile was made; measurements are scaled to that speed, so that a
            machine that is slower now than then does not make every network look worse than the full one.
    """
    from mtnas.measure.protocol import measure

    config = context.job.device
    models = {name: context.cut(selection) for name, selection in selections.items()}
    records = measure(models, config, progress=context.progress)
    costs: dict[str, dict[str, Cost]] = {}
    for name, selection in selections.items():
        record = records[name]
        latency = record.statistic(config.statistic)
        factor = anchor_ms / record.anchor_ms if anchor_ms and config.correct_drift else 1.0
        costs[name] = {**counted_costs(context, selection), "latency_ms": scaled(latency, factor)}
        costs[name] |= measured_singly(context, models[name])
    return costs


def measured_singly(context: RunContext, model: bytes) -> dict[str, Cost]:
    """Memory and energy of one network, in processes and loops of its own, where the budget limits them."""
    found: dict[str, Cost] = {}
    if limits_memory(context):
        found["memory_mb"] = measured_memory(context, model)
    if limits_energy(context):
        found["energy_mj"] = measured_energy(context, model)
    return found


def scaled(measured: Measured, factor: float) -> Measured:
    """The same measurement at another speed of the machine."""
    return replace(measured, value=measured.value * factor, low=measured.low * factor, high=measured.high * factor)


def quick_costs(context: RunContext) -> dict[str, dict[str, Cost]]:
    """Smallest and largest network, measured with fewer rounds: seconds, to refuse hopeless budgets early."""
    elastic = context.elastic
    quick = replace(context.job.device, rounds=5, max_rounds=8)
    shortened = RunContext(replace(context.job, device=quick), context.run.path, context.progress)
    shortened.elastic, shortened.graph = elastic, context.graph
    return measured_costs(
        shortened, {"smallest": elastic.selection(elastic.space.smallest), "largest": Selection.of({})}
    )


def limits_memory(context: RunContext) -> bool:
    return any(limit.name == "memory_mb" for limit in context.job.budget.limits)


def limits_energy(context: RunContext) -> bool:
    return any(limit.name == "energy_mj" for limit in context.job.budget.limits)


def measured_energy(context: RunContext, model: bytes) -> Measured:
    """Energy of one inference; `DeviceMissing` on a device without a counter."""
    from mtnas.measure.energy import energy

    return energy(model, context.job.device, progress=context.progress)


def measured_memory(context: RunContext, model: bytes) -> Measured:
    """Peak memory of a network in a fresh process."""
    from mtnas.measure.memory import peak_memory

    return peak_memory(model, context.job.device)


def file_costs(context: RunContext, models: Mapping[str, bytes]) -> dict[str, dict[str, dict[str, object]]]:
    """Measured p50 and p95 and the size of whole files, interleaved; as JSON."""
    from mtnas.measure.protocol import measure

    records = measure(models, context.job.device, progress=context.progress)
    return {
        name: {
            "latency_ms": records[name].p50.to_json(),
            "latency_ms_p95": records[name].p95.to_json(),
            "size_mb": Counted(len(model) / 1e6, "MB").to_json(),
        }
        for name, model in models.items()
    }


def check_budget(context: RunContext, costs: Mapping[str, Mapping[str, Cost]]) -> None:
    """Raise `Infeasible` when the smallest network breaks a limit, `DeviceMissing` for costs this device has not."""
    from mtnas.search.feasible import check_feasible

    known = costs["largest"]
    for limit in context.job.budget.limits:
        if limit.name not in known:
            raise DeviceMissing(
                f"a device that can measure {limit.name}",
                received=f"{context.job.device.device} has no such counter",
                where=f"budget.{limit.name}",
                cure="remove this limit, or run on a device with an energy counter",
            )
    check_feasible(absolute_limits(context, known), smallest=costs["smallest"], largest=known)


def absolute_limits(context: RunContext, full: Mapping[str, Cost]) -> dict[str, float]:
    """The job's limits as absolute numbers, given the unpruned network's costs."""
    return context.job.budget.resolve({name: cost.value for name, cost in full.items()})


def check_saved_budget(context: RunContext) -> None:
    """`check_budget` with the quick costs that the space stage has left: a changed budget is judged at once."""
    saved = context.run.result("space", "space.json")["quick_costs"]
    check_budget(context, {name: {k: cost_from_json(c) for k, c in row.items()} for name, row in saved.items()})
