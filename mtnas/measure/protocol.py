"""The measuring protocol: warm up until stable, then rounds in which all candidates and a fixed anchor take turns in
shuffled order, until the interval of the median is narrow or a cap is reached. Every run is kept.

Interleaving lets candidates share the machine's weather; on a shared virtual machine single rounds of one network
spread by some 5 % while medians over interleaved rounds agree to about 1 %.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Protocol

import numpy as np

from mtnas.base.errors import JobError
from mtnas.base.progress import Progress, Silent
from mtnas.base.quantity import Measured
from mtnas.base.seeds import derive_seed, generator
from mtnas.base.tables import lookup
from mtnas.device.inputs import random_inputs
from mtnas.device.machine import pinned
from mtnas.device.rounds import Lane, Rules, drift_percent, open_lane, settle_each, settle_together
from mtnas.measure.anchor import anchor_model, empty_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.lock import exclusive
from mtnas.measure.reach.base import Model, model_bytes
from mtnas.measure.reach.open import is_local
from mtnas.measure.reach.remote import RemoteRounds, Settled, environment_of, remote_together
from mtnas.measure.record import Environment, LatencyRecord, make_record
from mtnas.measure.runs import Runs
from mtnas.measure.runtimes.base import RuntimeOptions, Session
from mtnas.measure.runtimes.table import RUNTIMES
from mtnas.measure.statistics import ratio_of_medians

__all__ = [
    "Bench",
    "SelfTest",
    "drift_percent",
    "environment_here",
    "measure",
    "open_session",
    "resolution_percent",
    "self_test",
    "together",
]


def open_session(model: bytes, config: MeasureConfig) -> Session:
    """Open a network in the configured runtime, on this machine."""
    opener = lookup(config.runtime, RUNTIMES, "runtime", where="device.runtime")
    session: Session = opener(model, RuntimeOptions(threads=config.threads, spinning=config.spinning))
    return session


@contextmanager
def on_cores(config: MeasureConfig) -> Iterator[None]:
    """Keep this process on the cores asked for."""
    missing = sorted(set(config.affinity) - set(range(os.cpu_count() or 1)))
    if missing:
        raise JobError("cores of this machine", received=str(missing), where="device.affinity")
    with pinned(config.affinity):
        yield


def _warm(name: str, model: Model, config: MeasureConfig, stack: ExitStack) -> tuple[Lane, Session]:
    """Open a network here and warm it up."""
    session = stack.enter_context(open_session(model_bytes(model), config))
    specs = [(spec.name, spec.dtype, spec.shape) for spec in session.inputs]
    return open_lane(name, session.bind(random_inputs(specs, config.seed)), asdict(config)), session


class Rounds(Protocol):
    """A device held for measuring, with the anchor open."""

    @property
    def environment(self) -> Environment: ...

    def settle(self, models: Mapping[str, Model]) -> Iterator[Settled]: ...
    def __enter__(self) -> Rounds: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LocalRounds:
    """This machine, in this process."""

    def __init__(self, config: MeasureConfig, anchor: bytes, progress: Progress) -> None:
        self.config, self._anchor_model, self._progress = config, anchor, progress
        self._stack = ExitStack()
        self._rng = random.Random(derive_seed(config.seed, "measure", "order"))

    def __enter__(self) -> LocalRounds:
        with ExitStack() as stack:
            stack.enter_context(exclusive(self.config.lock_wait_s, self._progress))
            stack.enter_context(on_cores(self.config))
            self._anchor, session = _warm("\0anchor", self._anchor_model, self.config, stack)  # nobody's name
            self.environment = Environment.here(self.config, session.version, session.options)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def settle(self, models: Mapping[str, Model]) -> Iterator[Settled]:
        """The networks given share rounds."""
        with ExitStack() as stack:
            lanes = [_warm(name, model, self.config, stack)[0] for name, model in models.items()]
            for lane in settle_each(self._anchor, lanes, Rules.of(asdict(self.config)), self._rng):
                yield Settled(
                    name=lane.name,
                    runs=Runs.of(lane.runs_ms, lane.interrupted),
                    anchor_ms_R=self._anchor.rounds_ms_R[-len(lane.runs_ms) :],
                    note=lane.note,
                    state=lane.state,
                )


class Bench:
    """A device held for measuring, with the anchor open: a context manager.

    Args:
        config: how to measure, and where.
        anchor: the fixed network; the package's own when None.
        progress: told when another measurement is waited for.
    """

    def __init__(self, config: MeasureConfig, anchor: bytes | None = None, progress: Progress | None = None) -> None:
        self.config = config
        given = (config, anchor if anchor is not None else anchor_model(), progress or Silent())
        self._rounds: Rounds = LocalRounds(*given) if is_local(config) else RemoteRounds(*given)

    def __enter__(self) -> Bench:
        self._rounds.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rounds.__exit__(kind, error, trace)

    @property
    def environment(self) -> Environment:
        return self._rounds.environment

    def measure(self, models: Mapping[str, Model]) -> Iterator[LatencyRecord]:
        """Records in the order in which the networks settle; the models given share rounds.

        A device that is reached over a connection puts them into groups of `together` itself.
        """
        for found in self._rounds.settle(models):
            yield make_record(
                found.name,
                found.runs,
                found.anchor_ms_R,
                found.note,
                self.config,
                self.environment,
                state=found.state,
            )


def together(
    models: Mapping[str, Model],
    judged: tuple[str, ...],
    config: MeasureConfig,
    purpose: str,
    progress: Progress | None = None,
) -> dict[str, Runs]:
    """Runs of all networks, equally many rounds each, until the medians of those judged are narrow."""
    progress = progress or Silent()
    if not is_local(config):
        return remote_together(models, judged, config, purpose, progress)
    with exclusive(config.lock_wait_s, progress), on_cores(config), ExitStack() as stack:
        lanes = [_warm(name, model, config, stack)[0] for name, model in models.items()]
        rng = random.Random(derive_seed(config.seed, "measure", purpose))
        with progress.task(purpose, config.max_rounds) as bar:
            settle_together(lanes, judged, Rules.of(asdict(config)), rng, bar.advance)
    return {lane.name: Runs.of(lane.runs_ms, lane.interrupted) for lane in lanes}


def measure(
    models: Mapping[str, Model],
    config: MeasureConfig,
    *,
    anchor: bytes | None = None,
    progress: Progress | None = None,
) -> dict[str, LatencyRecord]:
    """Latency of every network, interleaved in groups of `config.together`, in the order given."""
    progress, names = progress or Silent(), list(models)
    group = config.together if is_local(config) else max(1, len(names))
    records: dict[str, LatencyRecord] = {}
    with Bench(config, anchor, progress) as bench, progress.task("measuring", len(names)) as bar:
        for start in range(0, len(names), group):
            for record in bench.measure({name: models[name] for name in names[start : start + group]}):
                records[record.name] = record
                bar.advance(network=record.name, ms=round(record.p50.value, 4))
    return {name: records[name] for name in names}


def environment_here(config: MeasureConfig) -> Environment:
    """The circumstances of a measurement that would start now, wherever the device is."""
    if not is_local(config):
        return environment_of(config)
    with open_session(empty_model(), config) as session:
        return Environment.here(config, session.version, session.options)


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


def self_test(model: Model, config: MeasureConfig, *, progress: Progress | None = None) -> SelfTest:
    """A/A: open one network twice, interleave both, and see how far the medians differ."""
    models = {"first": model, "second": model, "empty": empty_model()}
    runs = together(models, ("first", "second"), config, "self_test", progress)
    first_R, second_R = runs["first"].medians_R, runs["second"].medians_R
    draws = generator(config.seed, "measure", "self_test")
    ratio, low, high = ratio_of_medians(first_R, second_R, config.confidence, draws)
    measured = Measured(ratio, low, high, "x", len(first_R), "p50", config.device)
    return SelfTest(resolution_percent(low, high), measured, float(np.median(runs["empty"].medians_R)))


def resolution_percent(low: float, high: float) -> float:
    """The finest difference that an A/A interval of a ratio leaves to be claimed."""
    return 100.0 * max(abs(low - 1.0), abs(high - 1.0))
