"""One supernet against static single-task networks at equal total latency.

Each task's single-task network is trained at several widths. Four networks that run one after the other take the sum
of their latencies; within that sum, the multi-task network with the best mean loss ratio on the select split answers.
Latency does not depend on weights: it is measured once for all seeds, in rounds that neighbours share.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mtnas.console import ConsoleProgress
from mtnas.data.base import Dataset
from mtnas.data.open import open_dataset
from mtnas.elastic.graph import graph_of
from mtnas.measure.config import MeasureConfig
from mtnas.measure.protocol import measure
from mtnas.space.arch import Arch
from mtnas.tasks.base import Task
from tools.bench.record import Claim, Column, Options, Result
from tools.bench.supernets.answers import Candidate, Records, candidates
from tools.bench.supernets.arms import JOINT, single
from tools.bench.supernets.networks import elastic_network, full_network, tasks_of
from tools.bench.supernets.opened import note_of, opened
from tools.bench.supernets.settings import Setting, setting_of

COLUMNS = (
    Column("width", "width of the single-task networks, %"),
    Column("latency_ms", "their latencies together, ms", 3),
    Column("static", "single-task, delta one_metric [%, + better]", 2),
    Column("used_ms", "multi-task, ms", 3),
    Column("front", "multi-task, delta one_metric [%, + better]", 2),
    Column("gain", "ahead by, points", 2),
)
NOTE = (
    "delta against the single-task networks of full width of the same seed, report split. Latency: p50 on onnxruntime, "
    "one thread, float32, against one anchor in shared rounds."
)


def scenes(options: Options) -> Result:
    return run("scenes", options)


def run(data: str, options: Options) -> Result:
    """Tables from the records of a data set; records that are missing are made first."""
    setting = setting_of(data, quick=options.quick)
    tasks = list(tasks_of(setting, open_dataset(setting.data)))
    arms = [JOINT, *(single(task, m) for m in setting.multipliers for task in tasks)]
    records, seeds = opened(data, arms, options, answering=(JOINT,))
    times = measured_ms(records, seeds[0], common_archs(records, seeds))
    rows, claims = [], []
    for multiplier in setting.multipliers:
        total_ms = sum(times[single(task, multiplier)] for task in tasks)
        found = [_compared(records, seed, multiplier, total_ms, times) for seed in seeds]
        gains = [one["front"] - one["static"] for one in found]
        means = {key: statistics.fmean(one[key] for one in found) for key in ("static", "front", "used_ms")}
        row = {"width": round(100 * multiplier), "latency_ms": total_ms, **means, "gain": statistics.fmean(gains)}
        rows.append(row)
        title = f"points of delta ahead of single-task networks of {multiplier:.0%} width at equal latency"
        claims.append(Claim.of(title, gains, "more than", 0))
    return Result(seeds, tuple(rows), COLUMNS, tuple(claims), note_of(records, NOTE))


def _compared(
    records: Records, seed: int, multiplier: float, total_ms: float, times: Mapping[str, float]
) -> dict[str, float]:
    ratios: dict[str, float] = {}
    for task in records.metrics.names:
        one = records.read(single(task, multiplier), seed)
        ratios |= records.partial_ratios(one, "report", seed)
    timed = [(one, times[one.arch]) for one in candidates(records, JOINT, seed) if one.arch in times]
    best, used_ms = _best(timed, total_ms)
    return {"static": _delta(ratios), "front": _delta(best.report), "used_ms": used_ms}


def _best(timed: Sequence[tuple[Candidate, float]], total_ms: float) -> tuple[Candidate, float]:
    """Within the time, the lowest mean loss ratio on the select split; the fastest network where none fits."""
    within = [pair for pair in timed if pair[1] <= total_ms] or [min(timed, key=lambda pair: pair[1])]
    return min(within, key=lambda pair: statistics.fmean(pair[0].select.values()))


def _delta(ratios: Mapping[str, float]) -> float:
    return 100.0 * (1.0 - statistics.fmean(ratios.values()))


def common_archs(records: Records, seeds: Sequence[int]) -> dict[str, Any]:
    """By id, the archs that all seeds have scored on the report split: each search ends at networks of its own."""
    found = [
        {Arch.from_json(row["arch"]).id: row["arch"] for row in one["candidates"] if "report" in row}
        for one in (records.read(f"answers-{JOINT}", seed) for seed in seeds)
    ]
    return {name: arch for name, arch in found[0].items() if all(name in other for other in found)}


def measured_ms(records: Records, seed: int, archs: Mapping[str, Any]) -> dict[str, float]:
    """p50 of every single-task network by its arm's name, and of multi-task networks by their archs' ids."""
    setting = records.setting
    dataset = open_dataset(setting.data)
    files: dict[str, bytes] = {}
    tasks = tasks_of(setting, dataset)
    for task in tasks:
        rows = {single(task, m): records.read(single(task, m), seed)["arch"] for m in setting.multipliers}
        files |= _files(setting, dataset, {task: tasks[task]}, rows)
    files |= _files(setting, dataset, tasks, archs)
    found = measure(files, MeasureConfig(), progress=ConsoleProgress())
    return {name: record.p50.value for name, record in found.items()}


def _files(setting: Setting, dataset: Dataset, tasks: dict[str, Task], archs: Mapping[str, Any]) -> dict[str, bytes]:
    """ONNX files of some archs of one network, with initial weights."""
    elastic = elastic_network(full_network(setting, dataset, tasks, 0), setting)
    graph = graph_of(elastic)
    return {
        name: graph.cut(elastic.selection(Arch.from_json(arch))).SerializeToString() for name, arch in archs.items()
    }
