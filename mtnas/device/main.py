"""The runner: one JSON job file in, JSON lines out.

    python runner.pyz job.json        the package as one file, on any board
    python -m mtnas.device job.json   the same, from an installed package

Job: {"schema": "device-job/1", "kind": "latency" | "memory", "runtime", "threads", "spinning", "seed",
      "models": {name: path}, and for latency "rounds", "round_ms", "least_runs", "most_runs", "warmup_s"}
Out: {"event": "environment", ...}, then {"event": "latency", "name", "rounds_ms": [[run, ...], ...],
     "interrupted": [[place, ...], ...]} or {"event": "memory", "name", "base_mb", "peak_mb"};
     {"event": "error", "text"} and exit status 1 on failure.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Sequence

from .job import JOBS, environment
from .networks import runtime_version

SCHEMA = "device-job/1"


def emit(record: dict[str, Any]) -> None:
    """One record to whoever listens."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Run one job file; 0, or 1 with an error record."""
    try:
        with open(arguments[0], encoding="utf-8") as stream:
            job = json.load(stream)
        if job.get("schema") != SCHEMA:
            raise ValueError("expected schema " + SCHEMA + ", received " + repr(job.get("schema")))
        emit(dict(environment(job["runtime"], runtime_version(job["runtime"])), event="environment"))
        JOBS[job["kind"]](job, emit)
    except Exception as error:  # noqa: BLE001 - the border of a process: every failure becomes a record
        emit({"event": "error", "text": type(error).__name__ + ": " + str(error)})
        return 1
    return 0
