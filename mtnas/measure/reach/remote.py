"""Measuring on a device that is reached by jobs: what the rounds are in this process, seen from afar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from mtnas.base.progress import Progress, Silent
from mtnas.base.seeds import derive_seed
from mtnas.measure.anchor import empty_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.reach.base import Model, Reach, Record, events, settings_of
from mtnas.measure.reach.open import open_reach
from mtnas.measure.record import Environment
from mtnas.measure.runs import Runs

_ANCHOR = "\0anchor"  # no caller can have this name


@dataclass(frozen=True)
class Settled:
    """One network's rounds, and the anchor's median in each of them. Shape letter: R = rounds."""

    name: str
    runs: Runs
    anchor_ms_R: np.ndarray
    note: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)


class RemoteRounds:
    """A device that runs our jobs."""

    def __init__(self, config: MeasureConfig, anchor: bytes, progress: Progress) -> None:
        self.config, self._anchor, self._progress = config, anchor, progress
        self._stack = ExitStack()
        self._environment: Environment | None = None

    def __enter__(self) -> RemoteRounds:
        with ExitStack() as stack:
            self._reach: Reach = stack.enter_context(open_reach(self.config, "bench", self._progress))
            self._stack = stack.pop_all()
        return self

    @property
    def environment(self) -> Environment:
        """As the first job told it; asked for when none has run yet."""
        if self._environment is None:
            self._environment = _environment(self._reach, self.config)
        return self._environment

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def settle(self, models: Mapping[str, Model]) -> Iterator[Settled]:
        """Networks as they settle; the device opens `together` of them at a time."""
        order = derive_seed(self.config.seed, "measure", "order") % 2**32
        job = {"kind": "latency", "anchor": _ANCHOR, "measured": list(models), **settings_of(self.config)}
        records = self._reach.run({**job, "seed": self.config.seed, "order": order}, {_ANCHOR: self._anchor, **models})
        told: Record = {}
        for record in records:
            if record.get("event") == "environment":
                told = record
            if record.get("event") == "latency":
                self._environment = self._environment or environment_from(told, record["options"], self.config)
                yield _settled(record)


def remote_together(
    models: Mapping[str, Model], judged: Sequence[str], config: MeasureConfig, purpose: str, progress: Progress
) -> dict[str, Runs]:
    """Runs of networks that share all their rounds."""
    job = {"kind": "latency", "judged": list(judged), **settings_of(config)}
    with open_reach(config, purpose, progress) as reach:
        found = events(list(reach.run(job, models)), "latency")
    return {name: _settled(found[name]).runs for name in models}


def environment_of(config: MeasureConfig, progress: Progress | None = None) -> Environment:
    """The circumstances on the device, without measuring."""
    with open_reach(config, "environment", progress or Silent()) as reach:
        return _environment(reach, config)


def _environment(reach: Reach, config: MeasureConfig) -> Environment:
    records = list(reach.run({"kind": "opened", **settings_of(config)}, {"empty": empty_model()}))
    return environment_from(records[0], events(records, "opened")["empty"]["options"], config)


def environment_from(found: Record, options: Mapping[str, Any], config: MeasureConfig) -> Environment:
    """What the runner says of its machine, in the words of a record."""
    return Environment(
        device=config.device,
        runtime=config.runtime,
        runtime_version=found["runtime_version"],
        threads=config.threads,
        spinning=config.spinning,
        precision=str(options.get("precision", "as in the file")),
        cpu=found["cpu"],
        features=tuple(found["features"]),
        cores=found["cores"],
        governor=found["governor"],
        affinity=tuple(config.affinity),
    )


def _settled(record: Record) -> Settled:
    runs = Runs.of(record["rounds_ms"], record["interrupted"])
    return Settled(record["name"], runs, np.asarray(record["anchor_ms"]), record["note"], record.get("state", {}))
