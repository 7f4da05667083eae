"""Which parts of a job each stage depends on: a stage is done again exactly when one of its own parts changes."""

from __future__ import annotations

from typing import Any

from mtnas.base.files import content_hash
from mtnas.base.tables import check_name
from mtnas.job.read import plain
from mtnas.job.schema import Job
from mtnas.train.config import INERT as INERT_SETTINGS

BEFORE: dict[str, tuple[str, ...]] = {
    "space": (),
    "train": ("space",),
    "profile": ("space",),
    "search": ("train", "profile"),
    "prune": ("search",),
    "quantize": ("prune",),
    "export": ("quantize",),
    "verify": ("export",),
    "certify": ("verify",),
    "references": ("verify",),
    "report": ("certify", "references"),
}
PARTS: dict[str, tuple[str, ...]] = {
    "space": ("seed", "model", "space"),
    "train": ("tasks", "train"),
    "profile": ("device",),
    "search": ("search", "score", "budget", "floors", "preference"),
    "prune": ("prune", "finetune"),
    "quantize": ("quantize",),
    "export": ("export",),
    "verify": (),
    "certify": (),
    "references": ("references",),
    "report": ("name",),
}
#: settings that never change a result: how soon an interruption is noticed, where files lie
INERT: dict[str, tuple[str, ...]] = {
    "train": INERT_SETTINGS,
    "finetune": INERT_SETTINGS,
    "device": ("lock_wait_s",),
    "references": ("cache",),
}


def stage_inputs(job: Job, stage: str) -> dict[str, Any]:
    """The parts of the job that the stage and those before it depend on, as plain values."""
    check_name(stage, PARTS, "stage")
    inputs: dict[str, Any] = {}
    for earlier in BEFORE[stage]:
        inputs |= stage_inputs(job, earlier)
    whole = plain(job)
    # "the usual number" was written 13 before sets other than nyuv2 had a choice: earlier runs keep their keys
    whole["data"]["classes"] = whole["data"]["classes"] or 13
    for part in PARTS[stage]:
        inputs[part] = _effective(part, whole[part])
    inputs["shape"] = {
        "data": {key: whole["data"][key] for key in ("name", "height", "width", "classes")},
        "tasks": [task["name"] for task in whole["tasks"]],
    }
    if stage not in {"space", "profile"}:
        # only `verify` reads the report split; what the data are is told by their fingerprint, not by where they lie
        unread = {"root"} if stage in {"verify", "certify", "references", "report"} else {"root", "report"}
        inputs["data"] = {key: value for key, value in whole["data"].items() if key not in unread}
    return inputs


def stage_hash(job: Job, stage: str) -> str:
    """A hash of `stage_inputs`."""
    return content_hash(stage_inputs(job, stage))


def _effective(part: str, value: Any) -> Any:
    if part == "train":
        value = {**value, "start": ""}  # not where the checkpoint lies, but what it holds, is added by `inputs_hash`
    inert = INERT.get(part, ())
    return {key: entry for key, entry in value.items() if key not in inert} if inert else value
