"""The table of contents: the stages of a run in time order.

    job.yaml -> space -> train -> profile -> search -> prune -> quantize -> export -> verify -> certify
        -> references -> report

Each stage is `run(context, folder) -> result`: it reads results of earlier stages from disk, writes its own folder, and
is skipped when everything it depends on hashes the same.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtnas import __version__
from mtnas.base.errors import BudgetMissed, ExitCode, InternalError, MtnasError, UserError
from mtnas.base.files import STORAGE_CURES, storage_error, write_json, write_text
from mtnas.base.machine import fingerprint
from mtnas.base.tables import check_name, lookup
from mtnas.job.read import resolved_yaml
from mtnas.stages.context import RunContext
from mtnas.stages.costs import check_saved_budget
from mtnas.stages.inputs import inputs_hash
from mtnas.stages.preflight import preflight, preflight_labels

STAGES: dict[str, str] = {
    "space": "mtnas.stages.space:run",
    "train": "mtnas.stages.train:run",
    "profile": "mtnas.stages.profile:run",
    "search": "mtnas.stages.search:run",
    "prune": "mtnas.stages.prune:run",
    "quantize": "mtnas.stages.quantize:run",
    "export": "mtnas.stages.export:run",
    "verify": "mtnas.stages.verify:run",
    "certify": "mtnas.stages.certify:run",
    "references": "mtnas.stages.references:run",
    "report": "mtnas.stages.report:run",
}


def run_flow(context: RunContext, until: str = "report") -> None:
    """Run every stage up to `until`, skipping what is done; the folder is held meanwhile."""
    check_name(until, STAGES, "stage")
    names = tuple(STAGES)[: tuple(STAGES).index(until) + 1]
    preflight(context.job, names)
    with context.run.locked():
        _announce(context)
        name = "job"
        try:
            preflight_labels(context)
            for name in names:
                _run_stage(context, name)
                if name == "space":
                    check_saved_budget(context)
            _conclude(context, until)
        except OSError as error:
            if error.errno not in STORAGE_CURES:
                _record_failure(context, name, error)
                raise
            known = storage_error(error, Path(error.filename or context.run.path))
            _record_failure(context, name, known)
            raise known from error
        except BaseException as error:
            _record_failure(context, name, error)
            raise


def _run_stage(context: RunContext, name: str) -> None:
    """Run one stage, or skip it when nothing that it depends on has changed."""
    run = context.run
    inputs = inputs_hash(context, name)
    if run.finished(name, inputs):
        run.event(name, "skip")
        context.progress.note(f"{name}: unchanged, skipped")
        return
    (run.path / "DONE").unlink(missing_ok=True)
    folder = run.begin(name, inputs, context.progress.note)
    run.event(name, "start")
    context.progress.note(f"{name} ...")
    started = time.monotonic()
    result: Any = lookup(name, STAGES, "stage")(context, folder)
    seconds = time.monotonic() - started
    run.finish(name, inputs, result, seconds)
    run.event(name, "end", seconds=round(seconds, 3))


def _announce(context: RunContext) -> None:
    """Write what is about to run, and clear the last failure."""
    path: Path = context.run.path
    write_text(path / "job.resolved.yaml", resolved_yaml(context.job))
    write_json(path / "machine.json", {"schema": "machine/1", "mtnas": __version__, **fingerprint()})
    (path / "FAILED.json").unlink(missing_ok=True)


def _conclude(context: RunContext, until: str) -> None:
    """Leave DONE, or FAILED.json when the delivered file does not keep the budget; then the file is judged again by
    the next command, since a certificate is also a matter of how quiet the machine was."""
    run = context.run
    if until not in {"certify", "references", "report"}:
        return
    certificate = run.result("certify", "certificate.json")
    if not certificate["met"]:
        run.reopen("certify")
        missed = BudgetMissed(
            "a delivered file that keeps the budget",
            received=certificate["text"],
            where=str(run.stage("certify") / "certificate.json"),
            cure="certify again on a quieter machine (the same command), or give the budget more room",
        )
        _record_failure(context, "certify", missed)
    elif until == "report" and not (run.path / "DONE").exists():
        write_json(run.path / "DONE", {"schema": "done/1", "mtnas": __version__, "time": time.time()})


def _record_failure(context: RunContext, stage: str, error: BaseException) -> None:
    """Leave FAILED.json beside the results; never hides the error itself."""
    record = {
        "schema": "failed/1",
        "stage": stage,
        "kind": type(error).__name__,
        "message": str(error) or "interrupted",
        "cure": error.cure if isinstance(error, UserError) else "",
        "exit_code": _exit_code(error),
        "resume": f"{'mend the cause, then ' if isinstance(error, UserError) else ''}run the same command again",
    }
    with suppress(MtnasError, OSError):
        (context.run.path / "DONE").unlink(missing_ok=True)
        write_json(context.run.path / "FAILED.json", record)
        context.run.event(stage, "fail", text=str(record["message"]))


def _exit_code(error: BaseException) -> int:
    if isinstance(error, MtnasError):
        return int(error.exit_code)
    return int(ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else InternalError.exit_code)
