"""The contract of a way to reach a device: run one job of the device runner there and hand back its records.

A job is a mapping as `mtnas.device.main` documents it, without models; models are files, bytes, or networks still to
be cut. Records arrive while the job runs, first the environment, then one for each network as it is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from mtnas.measure.config import MeasureConfig

Record = dict[str, Any]


@runtime_checkable
class Cuttable(Protocol):
    """A network to be cut from a larger one, here or on the device; `mtnas.graph.shipping.CutRequest`."""

    def onnx_bytes(self) -> bytes: ...
    def base(self) -> bytes: ...
    def recipe(self) -> bytes: ...


Model = bytes | Path | Cuttable


class Reach(Protocol):
    """One device, held for several jobs: a context manager."""

    def run(self, job: Mapping[str, Any], models: Mapping[str, Model]) -> Iterator[Record]:
        """Run a job; raise `DeviceMissing` when the device cannot, be it that a network cannot be opened there."""
        ...

    def __enter__(self) -> Reach: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def model_bytes(model: Model) -> bytes:
    """A network as an ONNX file, whatever it is given as."""
    if isinstance(model, bytes):
        return model
    return model.read_bytes() if isinstance(model, Path) else model.onnx_bytes()


def settings_of(config: MeasureConfig) -> dict[str, Any]:
    """What a job says about how to measure; the words are those of the configuration."""
    names = (
        *("runtime", "threads", "spinning", "affinity", "seed", "warmup_ms", "warmup_cap_ms", "round_ms"),
        *("round_runs", "max_round_runs", "rounds", "max_rounds", "interval_percent", "confidence"),
        *("drift_percent", "retries", "together", "lock_wait_s"),
    )
    return {name: getattr(config, name) for name in names}


def events(records: Sequence[Record], kind: str) -> dict[str, Record]:
    """The records of one kind, by the network's name."""
    return {record["name"]: record for record in records if record.get("event") == kind}


def flat(record: Record) -> list[Record]:
    """The records of one line."""
    return record["records"] if record.get("event") == "records" else [record]
