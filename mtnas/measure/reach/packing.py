"""A job as files under their content hashes, and a key for each network so that none is measured twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtnas.device.main import SCHEMA
from mtnas.measure.reach.archive import runner_archive
from mtnas.measure.reach.base import Cuttable, Model, model_bytes


@dataclass(frozen=True)
class Package:
    """What a device needs for one job.

    Args:
        runner: hash of the runner.
        job: hash of the job.
        keys: key -> name of the networks whose records are wanted.
        blobs: content of every file by its hash.
    """

    runner: str
    job: str
    keys: Mapping[str, str]
    blobs: Mapping[str, bytes]


def pack(job: Mapping[str, Any], models: Mapping[str, Model]) -> Package:
    """Files and keys of a job. Networks in `job["measured"]` (all, if absent) get a key; the others only help."""
    blobs: dict[str, bytes] = {}
    entries = {name: _entry(model, blobs) for name, model in models.items()}
    wanted: Sequence[str] = job.get("measured", list(models))
    settings = _canonical({key: value for key, value in job.items() if key != "measured"})
    helpers = _canonical([entries[name] for name in models if name not in set(wanted)])
    keys = {name: _sha(settings + helpers + _canonical([name, entries[name]])) for name in wanted}
    full = {**job, "schema": SCHEMA, "models": entries, "keys": keys}
    runner, text = _add(runner_archive(), blobs), _add(_canonical(full), blobs)
    return Package(runner, text, {key: name for name, key in keys.items()}, blobs)


def _entry(model: Model, blobs: dict[str, bytes]) -> dict[str, str]:
    """How the job names a network: a file, or a recipe for cutting one."""
    if isinstance(model, Cuttable):
        return {"base": _add(model.base(), blobs), "recipe": _add(model.recipe(), blobs)}
    return {"blob": _add(model_bytes(model), blobs)}


def _add(data: bytes, blobs: dict[str, bytes]) -> str:
    name = _sha(data)
    blobs[name] = data
    return name


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("utf-8")
