"""Width steps from the device: small chains of convolutions at many widths, measured, and the step that they show.

What a width should be a multiple of depends on device, runtime and precision, and changes between versions. So it is
measured: seconds for each precision, all widths of one curve in the same rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from mtnas.base.errors import CheckpointError
from mtnas.base.progress import Progress, Silent
from mtnas.base.quantity import Measured
from mtnas.base.tables import check_name
from mtnas.measure.config import MeasureConfig
from mtnas.measure.probe_networks import DEFAULT_KINDS, KINDS, WIDTHS
from mtnas.measure.protocol import measure
from mtnas.measure.record import Environment, now, read_measured
from mtnas.measure.staircase import Stairs, find_stairs

SCHEMA = "stairs/1"
FLOAT, INT8 = "float32", "int8"

#: makes the int8 network of a float one
Quantize = Callable[[onnx.ModelProto], onnx.ModelProto]


@dataclass(frozen=True)
class Curve:
    """Latency over width for one kind of layer in one precision."""

    kind: str
    precision: str
    widths: tuple[int, ...]
    ms: tuple[Measured, ...]
    stairs: Stairs

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "precision": self.precision,
            "widths": list(self.widths),
            "ms": [value.to_json() for value in self.ms],
            "stairs": self.stairs.to_json(),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Curve:
        values = tuple(read_measured(value) for value in data["ms"])
        stairs = Stairs.from_json(data["stairs"])
        return Curve(data["kind"], data["precision"], tuple(data["widths"]), values, stairs)


@dataclass(frozen=True)
class WidthSteps:
    """What the probe found on one device."""

    curves: tuple[Curve, ...]
    environment: Environment
    measured_at: str
    seconds: float

    @property
    def steps(self) -> dict[str, int | None]:
        """For each precision the step that suits every kind of layer; None where no curve can be trusted."""
        found: dict[str, int | None] = {}
        for curve in self.curves:
            known = found.get(curve.precision)
            step = None if curve.stairs.doubt else curve.stairs.step
            found[curve.precision] = max(known, step) if known and step else known or step
        return found

    def step(self, precisions: Sequence[str]) -> int | None:
        """The step that suits all these precisions (steps divide one another); None when one of them is in doubt."""
        found = [self.steps.get(precision) for precision in precisions]
        known = [step for step in found if step]
        return max(known) if known and len(known) == len(found) else None

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "steps": self.steps,
            "curves": [curve.to_json() for curve in self.curves],
            "environment": self.environment.to_json(),
            "measured_at": self.measured_at,
            "seconds": self.seconds,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> WidthSteps:
        if data.get("schema") != SCHEMA:
            raise CheckpointError(f"schema {SCHEMA!r}", received=repr(data.get("schema")), where="width steps")
        curves = tuple(Curve.from_json(curve) for curve in data["curves"])
        return WidthSteps(curves, Environment.from_json(data["environment"]), data["measured_at"], data["seconds"])


def probe_steps(
    config: MeasureConfig,
    quantize: Quantize | None = None,
    *,
    kinds: Sequence[str] = DEFAULT_KINDS,
    widths: Sequence[int] = WIDTHS,
    progress: Progress | None = None,
) -> WidthSteps:
    """Measure the stairs of a device.

    Args:
        config: the device, and how to measure; rounds are shortened to what stairs need.
        quantize: makes int8 networks; None leaves int8 out.
        kinds: rows of `KINDS`.
        widths: channels, ascending.
        progress: where to report.
    """
    progress, started = progress or Silent(), time.monotonic()
    quick = quick_protocol(config, len(widths))
    curves, environments = [], []
    makers: dict[str, Quantize | None] = {FLOAT: None} | ({INT8: quantize} if quantize else {})
    with progress.task("width steps", len(makers) * len(kinds)) as bar:
        for precision, made in makers.items():
            for kind in kinds:
                check_name(kind, KINDS, "kind of layer", "kinds")
                networks = {width: KINDS[kind](width) for width in widths}
                models = {str(w): (made(n) if made else n).SerializeToString() for w, n in networks.items()}
                records = list(measure(models, quick).values())
                ms = tuple(record.p50 for record in records)
                stairs = find_stairs(widths, [value.value for value in ms])
                curves.append(Curve(kind, precision, tuple(widths), ms, stairs))
                environments.append(records[0].environment)
                bar.advance(kind=kind, precision=precision, step=stairs.step)
    return WidthSteps(tuple(curves), environments[0], now(), round(time.monotonic() - started, 1))


def quick_protocol(config: MeasureConfig, networks: int) -> MeasureConfig:
    """Few short rounds that all widths share: steps are told by many widths together, not by one exact number."""
    rounds = min(config.rounds, 8)
    return replace(
        config,
        together=networks,
        warmup_ms=min(config.warmup_ms, 10.0),
        warmup_cap_ms=min(config.warmup_cap_ms, 200.0),
        rounds=rounds,
        max_rounds=max(rounds, min(config.max_rounds, 12)),
        round_ms=min(config.round_ms, 1.5),
        round_runs=min(config.round_runs, 5),
        interval_percent=max(config.interval_percent, 3.0),
    )
