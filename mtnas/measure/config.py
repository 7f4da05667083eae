"""How to measure: the numbers of the protocol, all recorded beside the results."""

from __future__ import annotations

from dataclasses import dataclass

from mtnas.base.errors import JobError


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """Settings of the measuring protocol and of the profile built with it."""

    device: str = "local-ort"
    """Name of a folder in `hardware_profiles/`, or a path to such a folder."""
    runtime: str = "onnxruntime"
    """Row of the runtimes table; must be what the device declares."""
    threads: int = 1
    """Threads inside an operator; operators run one after another."""
    precision: str = "auto"
    """Files that are measured: float32, int8 (timing copies of what quantization will make), or auto: as the device."""
    spinning: bool = False
    """Whether idle worker threads wait busily."""
    affinity: tuple[int, ...] = ()
    """Cores that measuring may use; all that this process has when empty."""
    warmup_ms: float = 20.0
    """Least time of warming up; it goes on until three blocks agree."""
    warmup_cap_ms: float = 1000.0
    """Most time of warming up."""
    rounds: int = 12
    """Least number of interleaved rounds."""
    max_rounds: int = 40
    """Most rounds; a network that needs more is marked unstable."""
    round_ms: float = 8.0
    """How long one network runs in one round, at least."""
    round_runs: int = 10
    """Least runs of one network in one round."""
    max_round_runs: int = 60
    """Most runs of one network in one round."""
    interval_percent: float = 1.5
    """Stop when the half-width of the interval of the median is below this."""
    confidence: float = 0.95
    """Confidence of every interval of a measured number."""
    drift_percent: float = 5.0
    """Measure again when the anchor network moved by more than this meanwhile."""
    retries: int = 1
    """How often to measure again after a drift."""
    claim_percent: float = 1.0
    """No smaller difference between two networks is ever claimed, however quiet the machine."""
    together: int = 4
    """Networks that share a round."""
    samples: int = 40
    """Sub-networks measured for the profile."""
    int8_samples: int = 16
    """Sub-networks measured as int8 too once int8 is delivered, for what a certificate predicts; 0 is none."""
    batch: int = 16
    """Sub-networks of a profile measured side by side; they share the machine's weather, and what comes next is chosen
    after each batch. An interruption loses one."""
    target_percent: float = 1.5
    """Stop a profile early when the predictor's cross-validated error is below this; 0 measures all samples."""
    time_limit_s: float = 0.0
    """Stop a profile after the batch in which this much time has passed; 0 is no limit."""
    cost_samples: int = 0
    """Sub-networks of a profile whose peak memory, and energy where there is a counter, are measured too, in fresh
    processes, for predictors of their own; 0 is none."""
    holdout: float = 0.25
    """Share of them that the predictor never sees, for its error."""
    coverage: float = 0.9
    """Share of networks whose latency the predictor's interval should contain."""
    correct_drift: bool = True
    """Whether the predictor learns latencies divided by the anchor's movement; reported numbers stay raw."""
    statistic: str = "p50"
    """What a latency limit bounds: p50, p95 or p99."""
    processes: int = 3
    """Fresh processes behind a certificate."""
    certify_rounds: int = 20
    """Rounds in each of them."""
    energy_loop_s: float = 2.0
    """Length of one loop of an energy measurement, where the device has a counter."""
    lock_wait_s: float = 300.0
    """How long to wait for another measurement on this machine."""
    seed: int = 0
    """Order of rounds, inputs, resampling."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "affinity", tuple(self.affinity))  # a list, when it comes back from JSON
        _positive(
            self,
            "threads",
            "rounds",
            "round_runs",
            "round_ms",
            "interval_percent",
            "together",
            "processes",
            "certify_rounds",
        )
        for name in ("target_percent", "time_limit_s", "cost_samples"):
            if getattr(self, name) < 0:
                raise JobError("zero or more", received=str(getattr(self, name)), where=f"device.{name}")
        _positive(self, "samples", "batch", "warmup_ms", "drift_percent", "energy_loop_s")
        _ordered(self, "rounds", "max_rounds")
        _ordered(self, "round_runs", "max_round_runs")
        _ordered(self, "warmup_ms", "warmup_cap_ms")
        for name in ("confidence", "coverage", "holdout"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise JobError("a share between 0 and 1", received=str(value), where=f"device.{name}")
        if self.precision not in {"auto", "float32", "int8"}:
            raise JobError("auto, float32 or int8", received=repr(self.precision), where="device.precision")
        if self.statistic not in {"p50", "p95", "p99"}:
            raise JobError("p50, p95 or p99", received=repr(self.statistic), where="device.statistic")


def _positive(config: MeasureConfig, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise JobError("a number above zero", received=str(getattr(config, name)), where=f"device.{name}")


def _ordered(config: MeasureConfig, low: str, high: str) -> None:
    if getattr(config, low) > getattr(config, high):
        raise JobError(
            f"device.{low} <= device.{high}",
            received=f"{getattr(config, low)} > {getattr(config, high)}",
            where=f"device.{low}",
            cure=f"raise {high} or lower {low}",
        )
