"""A device's measurements of one network's sub-networks, and the predictor fitted on them, as values and as files.

A folder holds `device.yaml` (description), `measurements.jsonl` (one durable line per measured network, appended as
each is done; the first line says under which circumstances) and `predictor.json` (the fit, its held-out error and its
provenance). The same format is shipped in `hardware_profiles/<device>/`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.files import file_hash, read_json, write_json, write_text
from mtnas.base.groups import Selection
from mtnas.base.journal import Journal
from mtnas.base.optional import require
from mtnas.base.quantity import Measured, Predicted
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import DeviceDescription, check_precision, read_device
from mtnas.measure.enough import Learning
from mtnas.measure.predictor import CostPredictor
from mtnas.measure.protocol import SelfTest, environment_here
from mtnas.measure.quality import outlier_totals, untrusted_totals
from mtnas.measure.reach.base import Model, model_bytes
from mtnas.measure.record import Environment, LatencyRecord, read_measured

JOURNAL, PREDICTOR, DEVICE = "measurements.jsonl", "predictor.json", "device.yaml"
SCHEMA = "profile/1"
#: Older profiles are used with a warning.
OLD_DAYS = 90.0


@dataclass(frozen=True)
class ProfilePoint:
    """One measured sub-network; `why` and `held_out` as in `Pick`."""

    selection: Selection
    features_F: tuple[float, ...]
    why: str
    held_out: bool
    record: LatencyRecord

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "latency",
            "selection": self.selection.to_json(),
            "features": list(self.features_F),
            "why": self.why,
            "held_out": self.held_out,
            **self.record.to_json(),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ProfilePoint:
        return ProfilePoint(
            Selection.from_json(data["selection"]),
            tuple(data["features"]),
            data["why"],
            data["held_out"],
            LatencyRecord.from_json(data),
        )


@dataclass(frozen=True)
class Profile:
    """What is known about a device, for one elastic network."""

    device: DeviceDescription
    environment: Environment
    points: tuple[ProfilePoint, ...]
    self_test: SelfTest
    predictor: CostPredictor
    created: str
    costs: Mapping[str, CostPredictor] = field(default_factory=dict)
    learning: Learning | None = None
    names: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()

    def predict_cost(self, name: str, features_NF: np.ndarray) -> list[Predicted]:
        """`latency_ms`, and `memory_mb` or `energy_mj` where they were measured, of networks that were not."""
        if name == "latency_ms":
            return self.predict(features_NF)
        if name not in self.costs:
            raise JobError(
                f"one of {', '.join(['latency_ms', *self.costs])}",
                received=name,
                where="profile",
                cure="set device.cost_samples, so that the profile measures it",
            )
        return self.costs[name].predict(features_NF)

    def predict(self, features_NF: np.ndarray) -> list[Predicted]:
        """Latency in ms of networks that were not measured."""
        return self.predictor.predict(features_NF)

    def measured(self, selection: Selection) -> LatencyRecord | None:
        """The record of this selection, if it was measured."""
        return next((point.record for point in self.points if point.selection == selection), None)

    def extreme(self, why: str) -> ProfilePoint:
        """The `largest` or the `smallest` network."""
        found = [point for point in self.points if point.why == why]
        return found[0] if found else self.points[0]

    @property
    def doubt(self) -> str:
        """Why the predictor must not steer a search; empty when it may."""
        return self.predictor.doubt

    @property
    def trustworthy(self) -> bool:
        return not self.doubt

    def age_days(self, when: datetime | None = None) -> float:
        """Days since the predictor was fitted."""
        return ((when or datetime.now(UTC)) - datetime.fromisoformat(self.created)).total_seconds() / 86400.0

    def save(self, folder: Path) -> None:
        """Write all three files; measurements last, so that a torn copy is noticed."""
        write_text(folder / DEVICE, self.device.to_yaml())
        (folder / JOURNAL).unlink(missing_ok=True)
        journal = Journal(folder / JOURNAL)
        journal.append(header(self.environment))
        journal.append({"kind": "self-test", **self.self_test.to_json()})
        for point in self.points:
            journal.append(point.to_json())
        write_predictor(self, folder)

    def to_json(self) -> dict[str, Any]:
        """The summary that a run's profile stage publishes."""
        return {
            "schema": "profile-stage/1",
            "device": self.device.name,
            "runtime": f"{self.environment.runtime} {self.environment.runtime_version}",
            "threads": self.environment.threads,
            "precision": self.environment.precision,
            "aa_resolution_percent": self.self_test.resolution_percent,
            "overhead_ms": self.self_test.overhead_ms,
            "anchor_ms": anchor_ms(self.points),
            "largest": self.extreme("largest").record.p50.to_json(),
            "smallest": self.extreme("smallest").record.p50.to_json(),
            "measured": len(self.points),
            "unstable": sum(not point.record.stable for point in self.points),
            "outliers": outlier_totals([point.record for point in self.points]),
            "untrusted": untrusted_totals([point.record for point in self.points]),
            "created": self.created,
            "learning": None if self.learning is None else self.learning.to_json(len(self.points)),
            "input_shape": list(self.input_shape),
            "costs": {name: _summary(one) for name, one in self.costs.items()},
            "predictor": {
                "kind": self.predictor.kind,
                "columns": "" if self.predictor.columns is None else self.predictor.columns.name,
                "steps": {} if self.predictor.columns is None else dict(self.predictor.columns.steps),
                "scores": dict(self.predictor.scores),
                "cross_validated_percent": self.predictor.cross_validated_percent,
                "held_out": self.predictor.held_out.to_json(),
                "coverage": self.predictor.coverage,
                "trustworthy": self.trustworthy,
                "doubt": self.doubt,
                "points": self._calibration(),
            },
            "environment": self.environment.to_json(),
        }

    def _calibration(self) -> list[dict[str, Any]]:
        predicted = self.predict(np.asarray([point.features_F for point in self.points]))
        return [
            {
                "id": point.selection.id,
                "measured": point.record.p50.value,
                "predicted": p.value,
                "low": p.low,
                "high": p.high,
                "held_out": point.held_out,
                "stable": point.record.stable,
            }
            for point, p in zip(self.points, predicted)
        ]


def anchor_ms(points: Sequence[ProfilePoint]) -> float:
    """The anchor's median over all points."""
    return float(np.median([point.record.anchor_ms for point in points]))


def _summary(predictor: CostPredictor) -> dict[str, Any]:
    """What a report says about a predictor."""
    held_out, unit = predictor.held_out.to_json(), predictor.unit
    return {"kind": predictor.kind, "unit": unit, "held_out": held_out, "doubt": predictor.doubt}


def input_shape(model: Model) -> tuple[int, ...]:
    """Shape of the network's image; a free batch counts as one."""
    onnx = require("onnx")
    graph = onnx.load_model_from_string(model_bytes(model)).graph
    stored = {tensor.name for tensor in graph.initializer}
    image = next(value for value in graph.input if value.name not in stored)
    return tuple(dim.dim_value or 1 for dim in image.type.tensor_type.shape.dim)


def check_input(profile: Profile, wanted: Sequence[int], where: Path) -> None:
    """Raise `JobError` for a profile of another input size."""
    if wanted and profile.input_shape and tuple(wanted) != profile.input_shape:
        raise JobError(
            f"a profile of images of shape {tuple(wanted)}",
            received=f"one of shape {profile.input_shape}",
            where=str(where),
            cure="profile the network again at this input size",
        )


def load_profile(
    folder: Path, config: MeasureConfig | None = None, *, input_shape: Sequence[int] = (), now: datetime | None = None
) -> Profile:
    """Read a profile; with `config`, refuse one that was made under other circumstances than here and now.

    Args:
        folder: of the profile.
        config: the circumstances that must agree; nothing is asked of the device without.
        input_shape: (1, channels, height, width) of the networks it shall predict; not checked when empty.
        now: to which its age is counted.

    Warns:
        UserWarning: the profile is older than `OLD_DAYS`; machines change slowly, drivers and firmware do not say so.
    """
    data = read_json(folder / PREDICTOR, schema=SCHEMA)
    records = Journal(folder / JOURNAL).records()
    if file_hash(folder / JOURNAL) != data["measurements_sha256"]:
        raise CheckpointError(
            "the measurements that the predictor was fitted on",
            received="a changed file",
            where=str(folder / JOURNAL),
            cure="run the profile stage again; it keeps what was measured",
        )
    profile = Profile(
        device=read_device(str(folder)),
        environment=Environment.from_json(records[0]["environment"]),
        points=_points(records, data["points"]),
        self_test=read_self_test(next(record for record in records if record["kind"] == "self-test")),
        predictor=CostPredictor.from_json(data["predictor"]),
        created=data["created"],
        costs={name: CostPredictor.from_json(one) for name, one in data.get("costs", {}).items()},
        learning=Learning.from_json(data["learning"]) if data.get("learning") else None,
        names=tuple(data.get("names", ())),
        input_shape=tuple(data.get("input_shape", ())),
    )
    check_input(profile, input_shape, folder)
    if config is not None and (age := profile.age_days(now)) > OLD_DAYS:
        warnings.warn(f"the profile in {folder.name} is {age:.0f} days old: measure again", stacklevel=2)
    if config is not None:
        check_precision(folder, config)
        check_environment(profile.environment, here(config), folder)
    return profile


def _points(records: Sequence[Mapping[str, Any]], roles: Sequence[Mapping[str, Any]]) -> tuple[ProfilePoint, ...]:
    """The points that the predictor knows, in its order and with their roles there."""
    found = [ProfilePoint.from_json(record) for record in records if record["kind"] == "latency"]
    by_id = {point.selection.id: point for point in found}
    return tuple(replace(by_id[role["id"]], why=role["why"], held_out=role["held_out"]) for role in roles)


def here(config: MeasureConfig) -> Environment:
    """The circumstances of a measurement that would start now, wherever the device is."""
    return environment_here(config)


def check_environment(recorded: Environment, current: Environment, where: Path) -> None:
    """Raise `JobError` when numbers measured there say nothing about here."""
    differences = recorded.differences(current)
    if differences:
        raise JobError(
            "a profile made under the same circumstances",
            received="; ".join(differences),
            where=str(where),
            cure="profile this machine again into a new folder, or restore the runtime version and settings",
        )


def header(environment: Environment) -> dict[str, Any]:
    """The first line of a journal."""
    return {"kind": "environment", "schema": SCHEMA, "environment": environment.to_json()}


def read_self_test(record: Mapping[str, Any]) -> SelfTest:
    """The inverse of `SelfTest.to_json`."""
    ratio: Measured = read_measured(record["ratio"])
    return SelfTest(record["resolution_percent"], ratio, record["overhead_ms"])


def write_predictor(profile: Profile, folder: Path) -> None:
    """Write predictor.json beside a journal that is already there."""
    write_json(
        folder / PREDICTOR,
        {
            "schema": SCHEMA,
            "created": profile.created,
            "points": [{"id": p.selection.id, "why": p.why, "held_out": p.held_out} for p in profile.points],
            "measurements_sha256": file_hash(folder / JOURNAL),
            "anchor_ms": anchor_ms(profile.points),
            "environment": profile.environment.to_json(),
            "predictor": profile.predictor.to_json(),
            "costs": {name: one.to_json() for name, one in profile.costs.items()},
            "learning": None if profile.learning is None else profile.learning.to_json(len(profile.points)),
            "names": list(profile.names),
            "input_shape": list(profile.input_shape),
        },
    )
