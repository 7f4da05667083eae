"""The runner: one JSON job file in, JSON lines out.

    python runner.pyz job.json              the package as one file, on any board; lines go to standard output
    python -m mtnas.device job.json         the same, from an installed package
    python runner.pyz session FOLDER JOB RUN    a job of a remote session; see `session.py`

Job: {"schema": "device-job/2", "kind": "latency" | "layers" | "memory" | "opened", "runtime", "threads", "spinning",
      "affinity", "seed", "models": {name: path or see `store.py`}}, for layers "runs", and for latency "warmup_ms",
      "warmup_cap_ms", "round_ms", "round_runs", "max_round_runs", "rounds", "max_rounds", "interval_percent",
      "confidence"; with "anchor" (a model's name) also "drift_percent", "retries", "together"; without, perhaps
      "judged" (names that decide)
Out: {"event": "environment", ...}, then for each network {"event": "latency", "name", "rounds_ms": [[run, ...], ...],
     "interrupted": [[place, ...], ...], "anchor_ms", "note", "options", "state"}, {"event": "memory", "name",
     "base_mb", "peak_mb"}, {"event": "layers", "name", "layers": [{"name", "kind", "ms", "outputs"}], "options"} or
     {"event": "opened", "name", "version", "options"}; networks measured side by side are
     one line {"event": "records", "records": [...]}; {"event": "error", "text"} and exit status 1 on failure.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Sequence

from .job import JOBS
from .machine import environment
from .networks import runtime_version
from .session import run_session
from .store import Store

SCHEMA = "device-job/2"


def run_job(job: dict[str, Any], store: Store, emit: Any) -> None:
    """The environment first, then what the job asks for."""
    if job.get("schema") != SCHEMA:
        raise ValueError("expected schema " + SCHEMA + ", received " + repr(job.get("schema")))
    if job.get("kind") not in JOBS:
        raise ValueError("expected a kind of " + str(sorted(JOBS)) + ", received " + repr(job.get("kind")))
    emit([dict(environment(job["runtime"], runtime_version(job["runtime"])), event="environment")])
    JOBS[job["kind"]](job, store, emit)


def _print(records: Sequence[dict[str, Any]]) -> None:
    record = records[0] if len(records) == 1 else {"event": "records", "records": list(records)}
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Run one job file; 0, or 1 with an error record."""
    if len(arguments) == 4 and arguments[0] == "session":
        return run_session(arguments[1], arguments[2], arguments[3], run_job)
    try:
        with open(arguments[0], encoding="utf-8") as stream:
            job = json.load(stream)
        run_job(job, Store(), _print)
    except Exception as error:  # noqa: BLE001 - the border of a process: every failure becomes a record
        _print([{"event": "error", "text": type(error).__name__ + ": " + str(error)}])
        return 1
    return 0
