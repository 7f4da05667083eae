"""The table of contents: the stages of a run in time order.

    job.yaml -> space -> train -> profile -> search -> prune -> quantize -> export -> verify -> report

Each stage is `run(context, folder) -> result`: it reads results of earlier stages from disk, writes its own folder, and
is skipped when everything it depends on hashes the same.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mtnas import __version__
from mtnas.base.errors import MtnasError, UserError
from mtnas.base.files import content_hash, write_json, write_text
from mtnas.base.machine import fingerprint
from mtnas.base.tables import check_name, lookup
from mtnas.job.read import resolved_yaml
from mtnas.job.stages import BEFORE, stage_inputs
from mtnas.stages.context import RunContext
from mtnas.stages.costs import check_saved_budget

STAGES: dict[str, str] = {
    "space": "mtnas.stages.space:run",
    "train": "mtnas.stages.train:run",
    "profile": "mtnas.stages.profile:run",
    "search": "mtnas.stages.search:run",
    "prune": "mtnas.stages.prune:run",
    "quantize": "mtnas.stages.quantize:run",
    "export": "mtnas.stages.export:run",
    "verify": "mtnas.stages.verify:run",
    "report": "mtnas.stages.report:run",
}


def run_flow(context: RunContext, until: str = "report") -> None:
    """Run every stage up to `until`, skipping what is done; the folder is held meanwhile."""
    check_name(until, STAGES, "stage")
    run = context.run
    with run.locked():
        _announce(context)
        name = "job"
        try:
            for name in STAGES:
                _run_stage(context, name)
                if name == "space":
                    check_saved_budget(context)
                if name == until:
                    break
        except (MtnasError, KeyboardInterrupt) as error:
            _record_failure(context, name, error)
            raise
        if until == "report":
            write_json(run.path / "DONE", {"schema": "done/1", "mtnas": __version__, "time": time.time()})


def _run_stage(context: RunContext, name: str) -> None:
    """Run one stage, or skip it when nothing that it depends on has changed."""
    run = context.run
    inputs = content_hash(
        {
            "stage": name,
            "mtnas": __version__,
            "job": stage_inputs(context.job, name),
            "data": "" if name in {"space", "profile"} else context.data_fingerprint,
            "before": {earlier: run.result_hash(earlier) for earlier in BEFORE[name]},
        }
    )
    if run.finished(name, inputs):
        run.event(name, "skip")
        context.progress.note(f"{name}: unchanged, skipped")
        return
    folder = run.begin(name, inputs)
    run.event(name, "start")
    context.progress.note(f"{name} ...")
    started = time.monotonic()
    result: Any = lookup(name, STAGES, "stage")(context, folder)
    seconds = time.monotonic() - started
    run.finish(name, inputs, result, seconds)
    run.event(name, "end", seconds=round(seconds, 3))


def _announce(context: RunContext) -> None:
    """Write what is about to run, and clear the last outcome."""
    path: Path = context.run.path
    write_text(path / "job.resolved.yaml", resolved_yaml(context.job))
    write_json(path / "machine.json", {"schema": "machine/1", "mtnas": __version__, **fingerprint()})
    for stale in ("DONE", "FAILED.json"):
        (path / stale).unlink(missing_ok=True)


def _record_failure(context: RunContext, stage: str, error: BaseException) -> None:
    """Leave FAILED.json beside the results; never hides the error itself."""
    record = {
        "schema": "failed/1",
        "stage": stage,
        "kind": type(error).__name__,
        "message": str(error) or "interrupted",
        "cure": error.cure if isinstance(error, UserError) else "",
        "exit_code": int(error.exit_code) if isinstance(error, MtnasError) else 130,
        "resume": "run the same command again",
    }
    try:
        write_json(context.run.path / "FAILED.json", record)
        context.run.event(stage, "fail", text=str(record["message"]))
    except MtnasError:
        return
