"""Cost where it arises: what the shared encoder, each decoder and the glue between them cost on the device.

A runtime fuses and reorders across the borders of parts, so no part can be timed from inside. Instead whole networks
of some of the tasks are cut out and measured, all in the same rounds; their differences are what the parts cost.
Peak memory is shared out in the same way, from the whole, every single task and the shared part, each in a fresh
process. It adds up worse than time, as one part may use the memory that another has freed: the error says how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from mtnas.base.progress import Progress, Silent
from mtnas.base.quantity import Counted, Measured
from mtnas.base.seeds import generator
from mtnas.graph.branches import SHARED
from mtnas.graph.part_counts import PartCounts, count_parts
from mtnas.graph.subset import keep_outputs, shared_alone
from mtnas.measure.additive import (
    Tasks,
    checkable,
    fit_parts,
    incidence,
    resampled,
    residuals_percent,
    subsets_to_measure,
)
from mtnas.measure.anchor import empty_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.memory import peak_memory
from mtnas.measure.part_costs import CALL, Part, PartCosts, SubsetCost, sum_ms
from mtnas.measure.protocol import measure
from mtnas.measure.record import LatencyRecord

_EMPTY, _ALONE = "(call)", "(shared alone)"  # beside names of tasks
_NOTHING = (0, 0, 0)


def measure_parts(
    model: onnx.ModelProto, config: MeasureConfig, *, memory: bool = True, progress: Progress | None = None
) -> PartCosts:
    """Measure a network's parts and every subset of its tasks (those that determine the parts, when tasks are many).

    Args:
        model: float or int8 network with named outputs.
        config: how to measure; all networks share rounds.
        memory: whether to measure peak memory too (one fresh process for each network).
        progress: where to report.
    """
    tasks = tuple(output.name for output in model.graph.output)
    subsets, counts, alone = subsets_to_measure(tasks), count_parts(model), shared_alone(model)
    models = {_key(subset): keep_outputs(model, subset).SerializeToString() for subset in subsets}
    extra = {_EMPTY: empty_model()} | ({_ALONE: alone.SerializeToString()} if alone else {})
    records = measure({**models, **extra}, replace(config, together=len(models) + len(extra)), progress=progress)
    latency = _Latency(counts, subsets, records, config)
    shares = _memory(counts, tasks, {**models, **extra}, config, progress) if memory else None
    parts = tuple(
        _part(count, tasks, latency.shares[i], shares.parts[i] if shares else None) for i, count in enumerate(counts)
    )
    parts += (_call_part(latency.shares[-1]),)
    return PartCosts(
        tasks=tasks,
        parts=parts,
        subsets=tuple(
            SubsetCost(subset, records[_key(subset)].p50, sum_ms(parts, subset), float(error))
            for subset, error in zip(subsets, latency.residuals, strict=True)
        ),
        error_percent=latency.error_percent,
        shared_alone_ms=records[_ALONE].p50 if alone else None,
        memory_mb=shares.whole if shares else None,
        memory_error_percent=shares.error_percent if shares else None,
        environment=records[_key(tasks)].environment,
    )


class _Latency:
    """Shares of all parts and of the call, with intervals from resampled rounds, and what does not add up."""

    def __init__(
        self,
        counts: Sequence[PartCounts],
        subsets: Sequence[Tasks],
        records: Mapping[str, LatencyRecord],
        config: MeasureConfig,
    ) -> None:
        lanes = [records[_key(subset)] for subset in subsets]
        incidence_SP = incidence([count.tasks for count in counts], subsets)
        cost_S, fixed = np.array([lane.p50.value for lane in lanes]), records[_EMPTY].p50.value
        parts_P = fit_parts(incidence_SP, cost_S, fixed)
        rounds = [lane.runs.medians_R for lane in lanes]
        rng = generator(config.seed, "measure", "parts")
        drawn_DP = resampled(incidence_SP, rounds, records[_EMPTY].runs.medians_R, rng)
        tail = (1.0 - config.confidence) / 2.0
        low_P, high_P = np.quantile(drawn_DP, [tail, 1.0 - tail], axis=0)
        runs = sum(lane.p50.count for lane in lanes)
        self.shares = [
            _share(value, low, high, "ms", runs, config)
            for value, low, high in zip(parts_P, low_P, high_P, strict=True)
        ]
        self.shares.append(records[_EMPTY].p50)
        self.residuals = residuals_percent(incidence_SP, cost_S, parts_P, fixed)
        self.error_percent = float(np.abs(self.residuals).max()) if checkable(incidence_SP) else None


@dataclass(frozen=True)
class _Memory:
    """Peak memory of the whole and each part's share of it."""

    whole: Measured
    parts: list[Measured]
    error_percent: float | None


def _memory(
    counts: Sequence[PartCounts],
    tasks: Tasks,
    models: Mapping[str, bytes],
    config: MeasureConfig,
    progress: Progress | None,
) -> _Memory:
    """One fresh process for the whole, each task and the shared part: its row needs the shared part alone."""
    wanted = {_key(tasks): tasks, **{_key((task,)): (task,) for task in tasks}}
    once = replace(config, processes=1)
    keys = [*wanted, *([_ALONE] if _ALONE in models else [])]
    with (progress or Silent()).task("memory of parts", len(keys)) as bar:
        peaks = {}
        for key in keys:
            peaks[key] = peak_memory(models[key], once)
            bar.advance(network=key, mb=round(peaks[key].value, 2))
    rows = incidence([count.tasks for count in counts], list(wanted.values()))
    if _ALONE in peaks:
        rows = np.vstack([rows, [float(len(count.tasks) > 1) for count in counts]])
    cost_S = np.array([max(peaks[key].value, 1e-3) for key in keys])
    parts_P = fit_parts(rows, cost_S)
    residuals_S = np.abs(residuals_percent(rows, cost_S, parts_P, 0.0))
    error = float(residuals_S.max()) if checkable(rows) else None
    spread = (error or 0.0) / 100.0
    shares = [_share(p, p * (1 - spread), p * (1 + spread), "mb", len(keys), config) for p in parts_P]
    return _Memory(peaks[_key(tasks)], shares, error)


def _share(value: float, low: float, high: float, unit: str, count: int, config: MeasureConfig) -> Measured:
    low, high = max(0.0, min(float(low), float(value))), max(float(high), float(value))
    return Measured(float(value), low, high, unit, count, "share", config.device)


def _part(count: PartCounts, tasks: Tasks, latency: Measured, memory: Measured | None) -> Part:
    kind = "decoder" if len(count.tasks) == 1 else SHARED if count.tasks == tasks else "glue"
    name = SHARED if kind == SHARED else _key(count.tasks)
    return Part(name, kind, count.tasks, latency, *_amounts(count.macs, count.weight_bytes, count.moved_bytes), memory)


def _call_part(latency: Measured) -> Part:
    return Part(CALL, CALL, (), latency, *_amounts(*_NOTHING))


def _amounts(macs: int, weights: int, moved: int) -> tuple[Counted, Counted, Counted]:
    return Counted(float(macs), "MACs"), Counted(float(weights), "bytes"), Counted(float(moved), "bytes")


def _key(tasks: Sequence[str]) -> str:
    return " + ".join(tasks)
