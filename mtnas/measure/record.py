"""What a measurement leaves behind: every run, the interval, the circumstances. Never a bare number.

Shape letters: R = rounds, N = runs of one round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mtnas.base.machine import cpu_info, governor
from mtnas.base.quantity import Measured
from mtnas.base.seeds import generator
from mtnas.measure.config import MeasureConfig
from mtnas.measure.runs import Runs
from mtnas.measure.statistics import quantile_interval, ratio_of_medians, rounds_quantile_interval

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
        return Environment(**{**data, "features": tuple(data["features"])})


@dataclass(frozen=True)
class LatencyRecord:
    """The latency of one network.

    Args:
        name: what the caller calls the network.
        p50: median of the rounds' medians (see `Runs`), with its order-statistics interval.
        p95: 95th percentile of all runs, with an interval from resampled rounds.
        relative: p50 divided by the anchor's median over the same rounds; unit `x`.
        runs_ms_RN: every timed run.
        interrupted: for each round the places of the runs that another process interrupted.
        anchor_ms_R: the anchor's median in each of the same rounds.
        stable: the interval became as narrow as asked, and the anchor stood still.
        note: why not, when not.
        environment: the circumstances.
        measured_at: when, UTC.
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

    @property
    def runs(self) -> Runs:
        return Runs.of(self.runs_ms_RN, self.interrupted)

    @property
    def anchor_ms(self) -> float:
        return float(np.median(self.anchor_ms_R))

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "latency/1",
            "name": self.name,
            "p50": self.p50.to_json(),
            "p95": self.p95.to_json(),
            "relative": self.relative.to_json(),
            "runs_ms": [list(runs) for runs in self.runs_ms_RN],
            "interrupted": [list(places) for places in self.interrupted],
            "anchor_ms": list(self.anchor_ms_R),
            "stable": self.stable,
            "note": self.note,
            "environment": self.environment.to_json(),
            "measured_at": self.measured_at,
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
        )


def make_record(
    name: str,
    runs: Runs,
    anchor_ms_R: Sequence[float] | np.ndarray,
    note: str,
    config: MeasureConfig,
    environment: Environment,
) -> LatencyRecord:
    """Turn raw runs into a record; `note` says what was wrong, if anything."""
    anchor_R, rounds = np.asarray(anchor_ms_R), len(runs.ms_RN)
    rng = generator(config.seed, "measure", "intervals", name)
    ratio, low, high = ratio_of_medians(anchor_R, runs.medians_R, config.confidence, rng)
    return LatencyRecord(
        name=name,
        p50=median_ms(runs, config),
        p95=percentile_ms(runs.ms_RN, 0.95, config, rng),
        relative=Measured(ratio, low, high, "x", rounds, "p50", config.device),
        runs_ms_RN=tuple(tuple(round(float(t), 6) for t in row) for row in runs.ms_RN),
        interrupted=runs.places(),
        anchor_ms_R=tuple(round(float(t), 6) for t in anchor_R),
        stable=not note,
        note=note,
        environment=environment,
        measured_at=now(),
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


def read_measured(data: Mapping[str, Any]) -> Measured:
    """The inverse of `Measured.to_json`."""
    return Measured(**{key: value for key, value in data.items() if key != "kind"})


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
