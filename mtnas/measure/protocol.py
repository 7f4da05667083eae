"""The measuring protocol: warm up until stable, then rounds in which all candidates and a fixed anchor take turns in
shuffled order, until the interval of the median is narrow or a cap is reached. Every run is kept.

Interleaving lets candidates share the machine's weather; on a shared virtual machine single rounds of one network
spread by some 5 % while medians over interleaved rounds agree to about 1 %.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from mtnas.base.progress import Progress, Silent
from mtnas.base.quantity import Measured
from mtnas.base.seeds import derive_seed, generator
from mtnas.base.tables import lookup
from mtnas.device.inputs import random_inputs
from mtnas.device.timing import one_round, runs_for, warm_up
from mtnas.measure.anchor import anchor_model, empty_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.lock import exclusive
from mtnas.measure.record import Environment, LatencyRecord, make_record
from mtnas.measure.runs import Runs
from mtnas.measure.runtimes.base import RuntimeOptions, Session
from mtnas.measure.runtimes.table import RUNTIMES
from mtnas.measure.statistics import quantile_interval, ratio_of_medians

_ANCHOR = "\0anchor"  # no caller can have this name


@dataclass
class Lane:
    """One open network and the runs collected from it."""

    name: str
    session: Session
    call: Callable[[], object]
    count: int
    note: str = ""
    restarts: int = 0
    runs_ms: list[list[float]] = field(default_factory=list)
    interrupted: list[list[int]] = field(default_factory=list)

    @property
    def runs(self) -> Runs:
        return Runs.of(self.runs_ms, self.interrupted)

    @property
    def rounds_ms_R(self) -> np.ndarray:
        return self.runs.medians_R

    def clear(self) -> None:
        """Start again."""
        self.runs_ms.clear()
        self.interrupted.clear()

    def narrow(self, config: MeasureConfig) -> bool:
        """Whether the interval of the median is as tight as asked."""
        rounds_R = self.rounds_ms_R
        low, high = quantile_interval(rounds_R, 0.5, config.confidence)
        return (high - low) / 2.0 <= config.interval_percent / 100.0 * float(np.median(rounds_R))


def open_session(model: bytes, config: MeasureConfig) -> Session:
    """Open a network in the configured runtime."""
    opener = lookup(config.runtime, RUNTIMES, "runtime", where="device.runtime")
    session: Session = opener(model, RuntimeOptions(threads=config.threads, spinning=config.spinning))
    return session


def open_lane(name: str, model: bytes, config: MeasureConfig, stack: ExitStack) -> Lane:
    """Open a network and warm it up."""
    session = stack.enter_context(open_session(model, config))
    specs = [(spec.name, spec.dtype, spec.shape) for spec in session.inputs]
    call = session.bind(random_inputs(specs, config.seed))
    run_ms, _ = warm_up(call, config.warmup_ms / 1e3, config.warmup_cap_ms / 1e3)
    return Lane(name, session, call, runs_for(run_ms, config.round_ms, config.round_runs, config.max_round_runs))


def take_turns(lanes: Sequence[Lane], rng: random.Random) -> None:
    """One round: every lane once, in shuffled order."""
    times = one_round({lane.name: lane.call for lane in lanes}, {lane.name: lane.count for lane in lanes}, rng)
    for lane in lanes:
        runs_ms, interrupted = times[lane.name]
        lane.runs_ms.append(runs_ms)
        lane.interrupted.append(interrupted)


class Bench:
    """A machine held for measuring, with the anchor open: a context manager.

    Args:
        config: how to measure.
        anchor: the fixed network; the package's own when None.
        progress: told when another measurement is waited for.
    """

    def __init__(self, config: MeasureConfig, anchor: bytes | None = None, progress: Progress | None = None) -> None:
        self.config = config
        self._anchor_model = anchor if anchor is not None else anchor_model()
        self._progress = progress or Silent()
        self._stack = ExitStack()
        self._rng = random.Random(derive_seed(config.seed, "measure", "order"))

    def __enter__(self) -> Bench:
        with ExitStack() as stack:
            stack.enter_context(exclusive(self.config.lock_wait_s, self._progress))
            self._anchor = open_lane(_ANCHOR, self._anchor_model, self.config, stack)
            session = self._anchor.session
            self.environment = Environment.here(self.config, session.version, session.options)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def measure(self, models: Mapping[str, bytes]) -> Iterator[LatencyRecord]:
        """Records in the order in which the networks settle; the models given share rounds."""
        with ExitStack() as stack:
            waiting = [open_lane(name, model, self.config, stack) for name, model in models.items()]
            self._anchor.clear()
            while waiting:
                take_turns([self._anchor, *waiting], self._rng)
                for lane in list(waiting):
                    if self._finished(lane):
                        waiting.remove(lane)
                        yield self._record(lane)

    def _finished(self, lane: Lane) -> bool:
        """Enough rounds; a lane whose anchor moved is emptied and goes on."""
        config, rounds = self.config, len(lane.runs_ms)
        full = rounds >= config.max_rounds
        if rounds < config.rounds or not (full or lane.narrow(config)):
            return False
        drift = drift_percent(self._anchor.rounds_ms_R[-rounds:])
        if drift > config.drift_percent and lane.restarts < config.retries:
            lane.restarts += 1
            lane.clear()
            return False
        reasons = [] if lane.narrow(config) else [f"no narrower after {rounds} rounds"]
        if drift > config.drift_percent:
            reasons.append(f"the anchor moved by {drift:.1f} %")
        lane.note = "; ".join(reasons)
        return True

    def _record(self, lane: Lane) -> LatencyRecord:
        anchor_R = self._anchor.rounds_ms_R[-len(lane.runs_ms) :]
        return make_record(lane.name, lane.runs, anchor_R, lane.note, self.config, self.environment)


def measure(
    models: Mapping[str, bytes],
    config: MeasureConfig,
    *,
    anchor: bytes | None = None,
    progress: Progress | None = None,
) -> dict[str, LatencyRecord]:
    """Latency of every network, interleaved in groups of `config.together`, in the order given."""
    progress, names = progress or Silent(), list(models)
    records: dict[str, LatencyRecord] = {}
    with Bench(config, anchor, progress) as bench, progress.task("measuring", len(names)) as bar:
        for start in range(0, len(names), config.together):
            for record in bench.measure({name: models[name] for name in names[start : start + config.together]}):
                records[record.name] = record
                bar.advance(network=record.name, ms=round(record.p50.value, 4))
    return {name: records[name] for name in names}


def drift_percent(anchor_ms_R: np.ndarray) -> float:
    """How far the anchor's median moved between the first and the last third of the rounds."""
    third = max(1, len(anchor_ms_R) // 3)
    first, last = float(np.median(anchor_ms_R[:third])), float(np.median(anchor_ms_R[-third:]))
    return 100.0 * abs(last - first) / min(first, last)


@dataclass(frozen=True)
class SelfTest:
    """The same network measured against itself.

    Args:
        resolution_percent: the finest difference that may be claimed: the far end of the A/A ratio's interval.
        ratio: the A/A ratio; 1 on an ideal machine.
        overhead_ms: what a call of a network of no size costs.
    """

    resolution_percent: float
    ratio: Measured
    overhead_ms: float

    def to_json(self) -> dict[str, object]:
        return {
            "schema": "self-test/1",
            "resolution_percent": self.resolution_percent,
            "ratio": self.ratio.to_json(),
            "overhead_ms": self.overhead_ms,
        }


def self_test(model: bytes, config: MeasureConfig, *, progress: Progress | None = None) -> SelfTest:
    """A/A: open one network twice, interleave both, and see how far the medians differ."""
    with exclusive(config.lock_wait_s, progress), ExitStack() as stack:
        first, second = (open_lane(name, model, config, stack) for name in ("first", "second"))
        empty = open_lane("empty", empty_model(), config, stack)
        rng = random.Random(derive_seed(config.seed, "measure", "self_test"))
        while len(first.runs_ms) < config.rounds or not (
            len(first.runs_ms) >= config.max_rounds or (first.narrow(config) and second.narrow(config))
        ):
            take_turns([first, second, empty], rng)
    draws = generator(config.seed, "measure", "self_test")
    ratio, low, high = ratio_of_medians(first.rounds_ms_R, second.rounds_ms_R, config.confidence, draws)
    measured = Measured(ratio, low, high, "x", len(first.runs_ms), "p50", config.device)
    return SelfTest(resolution_percent(low, high), measured, float(np.median(empty.rounds_ms_R)))


def resolution_percent(low: float, high: float) -> float:
    """The finest difference that an A/A interval of a ratio leaves to be claimed."""
    return 100.0 * max(abs(low - 1.0), abs(high - 1.0))
