"""What a measurement leaves behind: every run, the interval, the circumstances. Never a bare number.

Shape letters: R = rounds, N = runs of one round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mtnas.base.errors import CheckpointError
from mtnas.base.machine import cpu_info, governor
from mtnas.base.quantity import Measured
from mtnas.base.seeds import generator
from mtnas.device.state import doubts
from mtnas.measure.config import MeasureConfig
from mtnas.measure.runs import Outliers, Runs
from mtnas.measure.statistics import percentile_bound, quantile_interval, ratio_of_medians, rounds_quantile_interval

_INFORMATIVE = frozenset({"device", "cores", "governor"})  # recorded, but numbers stay comparable when they differ


@dataclass(frozen=True)
class Environment:
    """What must agree before two latencies may be compared, and a little more for the reader."""

    device: str
    runtime: str
    runtime_version: str
    threads: int
    spinning: bool
    precision: str
    cpu: str
    features: tuple[str, ...]
    cores: int
    governor: str | None = None
    affinity: tuple[int, ...] = ()

    @staticmethod
    def here(config: MeasureConfig, version: str, options: Mapping[str, Any]) -> Environment:
        """This machine, with the runtime as a session reports it."""
        cpu = cpu_info()
        return Environment(
            device=config.device,
            runtime=config.runtime,
            runtime_version=version,
            threads=config.threads,
            spinning=config.spinning,
            precision=str(options.get("precision", "as in the file")),
            cpu=cpu["model"],
            features=tuple(cpu["features"]),
            cores=cpu["cores"],
            governor=governor(),
            affinity=tuple(config.affinity),
        )

    def differences(self, other: Environment) -> list[str]:
        """Sentences about what forbids comparing, such as `runtime_version: 1.20.0 there, 1.31.0 here`."""
        ours, theirs = asdict(self), asdict(other)
        decisive = [key for key in ours if key not in _INFORMATIVE and ours[key] != theirs[key]]
        return [f"{key}: {ours[key]} there, {theirs[key]} here" for key in decisive]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Environment:
        sets = {"features": tuple(data["features"]), "affinity": tuple(data.get("affinity", ()))}
        return Environment(**{**data, **sets})


@dataclass(frozen=True)
class LatencyRecord:
    """The latency of one network.

    Args:
        name: what the caller calls the network.
        p50: median of the rounds' medians (see `Runs`), with its order-statistics interval.
        p95: 95th percentile of all runs, with an interval from resampled rounds.
        p99: 99th percentile of all runs; the upper end is a bound that holds for few runs too, where there is one
            (`percentile_bound`), and else the slowest run. None in records made before it was kept.
        relative: p50 divided by the anchor's median over the same rounds; unit `x`.
        runs_ms_RN: every timed run.
        interrupted: for each round the places of the runs that another process interrupted.
        anchor_ms_R: the anchor's median in each of the same rounds.
        stable: the interval became as narrow as asked, and the anchor stood still.
        note: why not, when not; and how many runs were outliers.
        environment: the circumstances.
        measured_at: when, UTC.
        p99_bounded: whether there were enough runs to bound p99.
        outliers: runs far slower than the rest, counted; none of them is left out of p95 and p99.
        state: what the machine said of itself `before` and `after`, as `mtnas.device.state` reads it; may be empty.
        untrusted: why the machine's state speaks against this number, one sentence each.
    """

    name: str
    p50: Measured
    p95: Measured
    relative: Measured
    runs_ms_RN: tuple[tuple[float, ...], ...]
    interrupted: tuple[tuple[int, ...], ...]
    anchor_ms_R: tuple[float, ...]
    stable: bool
    note: str
    environment: Environment
    measured_at: str
    p99: Measured | None = None
    p99_bounded: bool = False
    outliers: Outliers | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    untrusted: tuple[str, ...] = ()

    @property
    def runs(self) -> Runs:
        return Runs.of(self.runs_ms_RN, self.interrupted)

    def statistic(self, name: str) -> Measured:
        """The latency that a limit bounds: `p50`, `p95` or `p99`."""
        found: Measured | None = getattr(self, name)
        if found is None:
            raise CheckpointError(f"a record with {name}", received=f"none of {self.name!r}", cure="measure it again")
        return found

    @property
    def anchor_ms(self) -> float:
        return float(np.median(self.anchor_ms_R))

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "latency/1",
            "name": self.name,
            "p50": self.p50.to_json(),
            "p95": self.p95.to_json(),
            "p99": self.p99.to_json() if self.p99 else None,
            "p99_bounded": self.p99_bounded,
            "relative": self.relative.to_json(),
            "runs_ms": [list(runs) for runs in self.runs_ms_RN],
            "interrupted": [list(places) for places in self.interrupted],
            "outliers": self.outliers.to_json() if self.outliers else None,
            "anchor_ms": list(self.anchor_ms_R),
            "stable": self.stable,
            "note": self.note,
            "environment": self.environment.to_json(),
            "measured_at": self.measured_at,
            "state": dict(self.state),
            "untrusted": list(self.untrusted),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LatencyRecord:
        return LatencyRecord(
            name=data["name"],
            p50=read_measured(data["p50"]),
            p95=read_measured(data["p95"]),
            relative=read_measured(data["relative"]),
            runs_ms_RN=tuple(tuple(runs) for runs in data["runs_ms"]),
            interrupted=tuple(tuple(places) for places in data["interrupted"]),
            anchor_ms_R=tuple(data["anchor_ms"]),
            stable=data["stable"],
            note=data["note"],
            environment=Environment.from_json(data["environment"]),
            measured_at=data["measured_at"],
            p99=read_measured(data["p99"]) if data.get("p99") else None,
            p99_bounded=data.get("p99_bounded", False),
            outliers=Outliers.from_json(data["outliers"]) if data.get("outliers") else None,
            state=data.get("state", {}),
            untrusted=tuple(data.get("untrusted", ())),
        )


def make_record(
    name: str,
    runs: Runs,
    anchor_ms_R: Sequence[float] | np.ndarray,
    note: str,
    config: MeasureConfig,
    environment: Environment,
    *,
    state: Mapping[str, Any] | None = None,
) -> LatencyRecord:
    """Turn raw runs into a record; `note` says what was wrong, if anything; `state` has `before` and `after`."""
    anchor_R, rounds = np.asarray(anchor_ms_R), len(runs.ms_RN)
    rng = generator(config.seed, "measure", "intervals", name)
    ratio, low, high = ratio_of_medians(anchor_R, runs.medians_R, config.confidence, rng)
    p95 = percentile_ms(runs.ms_RN, 0.95, config, rng)
    p99, bounded = bounded_percentile_ms(runs.ms_RN, 0.99, config, rng)
    return LatencyRecord(
        name=name,
        p50=median_ms(runs, config),
        p95=p95,
        p99=p99,
        p99_bounded=bounded,
        outliers=runs.outliers,
        relative=Measured(ratio, low, high, "x", rounds, "p50", config.device),
        runs_ms_RN=tuple(tuple(round(float(t), 6) for t in row) for row in runs.ms_RN),
        interrupted=runs.places(),
        anchor_ms_R=tuple(round(float(t), 6) for t in anchor_R),
        stable=not note,
        note="; ".join(part for part in (note, runs.outliers.text) if part),
        environment=environment,
        measured_at=now(),
        state=dict(state or {}),
        untrusted=doubts(state or {}, config.threads),
    )


def median_ms(runs: Runs, config: MeasureConfig) -> Measured:
    """Median over rounds; rounds lie apart in time, hence are nearly independent."""
    rounds_R = runs.medians_R
    low, high = quantile_interval(rounds_R, 0.5, config.confidence)
    return Measured(float(np.median(rounds_R)), low, high, "ms", int(runs.ms_RN.size), "p50", config.device)


def percentile_ms(runs_ms_RN: np.ndarray, q: float, config: MeasureConfig, rng: np.random.Generator) -> Measured:
    """Percentile of all runs."""
    value = float(np.quantile(runs_ms_RN, q))
    low, high = rounds_quantile_interval(runs_ms_RN, q, config.confidence, rng)
    count = int(runs_ms_RN.size)
    return Measured(value, min(low, value), max(high, value), "ms", count, f"p{round(100 * q)}", config.device)


def bounded_percentile_ms(
    runs_ms_RN: np.ndarray, q: float, config: MeasureConfig, rng: np.random.Generator
) -> tuple[Measured, bool]:
    """A high percentile whose upper end is honest when runs are few, and whether they were enough to bound it."""
    found = percentile_ms(runs_ms_RN, q, config, rng)
    bound = percentile_bound(runs_ms_RN.ravel(), q, (1.0 + config.confidence) / 2.0)
    high = max(found.high, float(runs_ms_RN.max()) if bound is None else bound)
    return replace(found, high=high), bound is not None


def read_measured(data: Mapping[str, Any]) -> Measured:
    """The inverse of `Measured.to_json`."""
    return Measured(**{key: value for key, value in data.items() if key != "kind"})


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
