"""The certificate: the delivered file against the budget, in fresh processes.

A latency limit is met when the upper end of the measured interval keeps it and the distance to it is larger than what
the machine takes for a difference between two copies of the same file (A/A). A machine that is too unquiet for the
margin certifies nothing, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtnas.base.budget import LIMIT_UNITS
from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.files import file_hash
from mtnas.base.progress import Progress, Silent
from mtnas.base.quantity import Counted, Measured, Predicted
from mtnas.base.seeds import derive_seed, generator
from mtnas.base.tables import check_name
from mtnas.device.state import doubts
from mtnas.measure.config import MeasureConfig
from mtnas.measure.energy import energy
from mtnas.measure.lock import exclusive
from mtnas.measure.memory import peak_memory
from mtnas.measure.protocol import resolution_percent
from mtnas.measure.reach.base import Model, events, settings_of
from mtnas.measure.reach.open import is_local, open_reach
from mtnas.measure.record import now
from mtnas.measure.runs import Runs
from mtnas.measure.statistics import nested_quantile_interval, percentile_bound, ratio_of_medians

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class LimitCheck:
    """One limit against what was found; `refused` when the machine could not decide."""

    name: str
    bound: float
    statistic: str
    measured: Measured | Counted
    predicted: Predicted | None
    met: bool
    refused: bool
    text: str

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "bound": self.bound,
            "statistic": self.statistic,
            "measured": self.measured.to_json(),
            "predicted": self.predicted.to_json() if self.predicted else None,
            "met": self.met,
            "refused": self.refused,
            "text": self.text,
        }


@dataclass(frozen=True)
class Certificate:
    """The last word on a budget."""

    met: bool
    refused: bool
    limits: tuple[LimitCheck, ...]
    latency: Mapping[str, Measured]
    aa_resolution_percent: float
    interrupted_percent: float
    processes: int
    model_sha256: str
    environment: Mapping[str, Any]
    options: Mapping[str, Any]
    device: str
    created: str
    text: str

    def with_counted(self, name: str, bound: float, counted: Counted) -> Certificate:
        """The same certificate with one more limit, on something that is counted and not measured."""
        check = _plain_check(name, bound, "count", counted)
        return _conclude(replace(self, limits=(*self.limits, check)))

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "certificate/1",
            "met": self.met,
            "refused": self.refused,
            "limits": [check.to_json() for check in self.limits],
            "latency": {name: measured.to_json() for name, measured in self.latency.items()},
            "aa_resolution_percent": self.aa_resolution_percent,
            "interrupted_percent": self.interrupted_percent,
            "processes": self.processes,
            "model_sha256": self.model_sha256,
            "device": self.device,
            "runtime": f"{self.environment['runtime']} {self.environment['runtime_version']}",
            "threads": self.environment["threads"],
            "environment": dict(self.environment),
            "options": dict(self.options),
            "created": self.created,
            "text": self.text,
        }


@dataclass(frozen=True)
class Evidence:
    """Runs of two copies of one file in each of P processes."""

    first_P: tuple[Runs, ...]
    second_P: tuple[Runs, ...]
    environment: Mapping[str, Any]
    options: Mapping[str, Any]

    def quantile(self, statistic: str, config: MeasureConfig) -> Measured:
        """A percentile over all processes; the interval knows that processes differ, too.

        The median is that of runs which nothing interrupted, higher percentiles count every run; see `Runs`.
        """
        both, q = [one.beside(two) for one, two in zip(self.first_P, self.second_P)], _QUANTILES[statistic]
        counted = [runs.clean_RN if q == 0.5 else runs.ms_RN for runs in both]
        everything = np.concatenate([runs.ravel() for runs in counted])
        value = float(np.nanquantile(everything, q))
        rng = generator(config.seed, "measure", "certify", statistic)
        low, high = nested_quantile_interval(counted, q, config.confidence, rng)
        if q > 0.95:  # so few runs lie above it that drawing them again does not tell what the next one may do
            bound = percentile_bound(everything, q, (1.0 + config.confidence) / 2.0)
            high = max(high, float(everything.max()) if bound is None else bound)
        return Measured(value, min(low, value), max(high, value), "ms", everything.size, statistic, config.device)

    def resolution_percent(self, config: MeasureConfig) -> float:
        """What this machine takes for a difference between the two copies."""
        first, second = (np.concatenate([r.medians_R for r in p]) for p in (self.first_P, self.second_P))
        rng = generator(config.seed, "measure", "certify", "aa")
        _, low, high = ratio_of_medians(first, second, config.confidence, rng)
        return resolution_percent(low, high)

    @property
    def interrupted_percent(self) -> float:
        """Share of runs that other work on the machine interrupted."""
        return float(np.mean([runs.interrupted_percent for runs in (*self.first_P, *self.second_P)]))


def certify(
    model: Path,
    limits: Mapping[str, float],
    config: MeasureConfig,
    *,
    processes: int = 3,
    predicted: Predicted | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Measure exactly this file against the limits.

    Args:
        model: the delivered ONNX file.
        limits: absolute bounds on `latency_ms`, `memory_mb`, `energy_mj` (where the device counts it, `DeviceMissing`
            elsewhere), `size_mb` (of the file); for `macs` and `params`, which
            nobody can measure, see `Certificate.with_counted`.
        config: how to measure; `config.statistic` says what a latency limit bounds.
        processes: fresh processes.
        predicted: the predictor's latency, shown beside the measured one.
        progress: where to report.
    """
    _check_arguments(model, limits, processes)
    config, progress = replace(config, processes=processes), progress or Silent()
    joules = {name: energy(model, config, progress=progress) for name in limits if name == "energy_mj"}
    evidence = gather(model, config, progress)
    certificate = Certificate(
        met=False,
        refused=False,
        limits=(),
        latency={name: evidence.quantile(name, config) for name in _QUANTILES},
        aa_resolution_percent=evidence.resolution_percent(config),
        interrupted_percent=evidence.interrupted_percent,
        processes=processes,
        model_sha256=file_hash(model),
        environment=evidence.environment,
        options=evidence.options,
        device=config.device,
        created=now(),
        text="",
    )
    checks = [
        _plain_check(name, bound, joules[name].statistic, joules[name])
        if name in joules
        else _check(name, bound, certificate, model, config, predicted)
        for name, bound in limits.items()
    ]
    return _conclude(replace(certificate, limits=tuple(checks)))


def gather(model: Path, config: MeasureConfig, progress: Progress) -> Evidence:
    """Time two copies of the file in each of several fresh processes, on the device."""
    rounds = {"rounds": config.certify_rounds, "max_rounds": config.certify_rounds}
    job = {"kind": "latency", **settings_of(config), **rounds}
    models: dict[str, Model] = {"first": model.resolve(), "second": model.resolve()}
    first: list[Runs] = []
    second: list[Runs] = []
    environment, options = {}, {}
    untrusted: dict[str, None] = {}
    with (
        exclusive(config.lock_wait_s, progress) if is_local(config) else nullcontext(),
        open_reach(config, "certify", progress) as reach,
        progress.task("certifying", config.processes) as bar,
    ):
        for process in range(config.processes):
            seed = derive_seed(config.seed, "certify", process) % 2**32
            records = list(reach.run({**job, "seed": seed, "process": process}, models))
            timed = events(records, "latency")
            for copy, kept in (("first", first), ("second", second)):
                kept.append(Runs.of(timed[copy]["rounds_ms"], timed[copy]["interrupted"]))
            environment, options = records[0], timed["first"]["options"]
            untrusted |= dict.fromkeys(doubts(timed["first"].get("state", {}), config.threads))
            bar.advance()
    known = {key: value for key, value in environment.items() if key not in {"event", "features", "governor"}}
    told = {**known, "threads": config.threads, "untrusted": list(untrusted)}
    return Evidence(tuple(first), tuple(second), told, options)


def _check_arguments(model: Path, limits: Mapping[str, float], processes: int) -> None:
    if not model.is_file():
        raise CheckpointError("the delivered file", received="no file", where=str(model), cure="run export first")
    if processes < 1:
        raise JobError("at least one process", received=str(processes), where="certify")
    for name in limits:
        check_name(name, LIMIT_UNITS, "limit", where="budget")
        if name in {"macs", "params"}:
            raise JobError(
                "limits that can be measured", received=name, where="certify", cure="use Certificate.with_counted"
            )


def _check(
    name: str,
    bound: float,
    certificate: Certificate,
    model: Path,
    config: MeasureConfig,
    predicted: Predicted | None,
) -> LimitCheck:
    if name == "size_mb":
        return _plain_check(name, bound, "file", Counted(model.stat().st_size / 1e6, "mb"))
    if name == "memory_mb":
        return _plain_check(name, bound, "peak", peak_memory(model, config))
    return judge_latency(bound, certificate.latency[config.statistic], certificate.aa_resolution_percent, predicted)


def judge_latency(
    bound: float, measured: Measured, aa_resolution_percent: float, predicted: Predicted | None = None
) -> LimitCheck:
    """Met, missed, or refused because the machine cannot tell."""
    margin_percent = 100.0 * (bound / measured.value - 1.0)
    interval = f"{measured.value:.3f} ms ({measured.low:.3f} to {measured.high:.3f})"
    found = f"{measured.statistic} {interval}, limit {bound:.3f} ms"
    kept, refused = measured.high <= bound, 0.0 <= margin_percent < aa_resolution_percent
    if refused:
        text = (
            f"not certified: {found}; the margin of {margin_percent:.1f} % is finer than the "
            f"{aa_resolution_percent:.1f} % that this machine tells apart now: stop other work on it, use more "
            "processes, or leave more room"
        )
    elif kept:
        text = f"kept: {found}"
    elif margin_percent >= 0:
        text = f"missed: {found}; the interval reaches above the limit"
    else:
        text = f"missed by {100.0 * (measured.value / bound - 1.0):.1f} %: {found}"
    return LimitCheck("latency_ms", bound, measured.statistic, measured, predicted, kept and not refused, refused, text)


def _plain_check(name: str, bound: float, statistic: str, found: Measured | Counted) -> LimitCheck:
    """A limit on memory, size or a count: no A/A, the upper end decides."""
    worst = found.high if isinstance(found, Measured) else found.value
    met = worst <= bound
    text = f"{'kept' if met else 'missed'}: {name} {found.value:.6g}, limit {bound:.6g} {LIMIT_UNITS[name]}"
    return LimitCheck(name, bound, statistic, found, None, met, False, text)


def _conclude(certificate: Certificate) -> Certificate:
    met = all(check.met for check in certificate.limits)
    refused = any(check.refused for check in certificate.limits)
    text = "; ".join(check.text for check in certificate.limits) or "no limit was set"
    return replace(certificate, met=met, refused=refused, text=text)
