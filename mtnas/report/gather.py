"""Read what a run has left so far; a stage that has not run is empty, a damaged file is named and left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mtnas.base.errors import CheckpointError
from mtnas.base.files import read_json
from mtnas.base.journal import Journal

Record = Mapping[str, Any]

FILES: dict[str, str] = {
    "machine": "machine.json",
    "done": "DONE",
    "failed": "FAILED.json",
    "space": "1-space/space.json",
    "stairs": "1-space/stairs.json",
    "train": "2-train/train.json",
    "profile": "3-profile/profile.json",
    "parts": "3-profile/parts.json",
    "search": "4-search/search.json",
    "control": "4-search/control.json",
    "prune": "5-prune/prune.json",
    "quantize": "6-quantize/quantize.json",
    "export": "7-export/manifest.json",
    "exported": "7-export/export.json",
    "verify": "8-verify/verify.json",
    "parts_delivered": "8-verify/parts.json",
    "certificate": "8-verify/certificate.json",
    "references": "references/references.json",
}
SUBSET_CONTROLS = "subsets/*/4-search/control.json"
JOURNALS: dict[str, str] = {
    "events": "events.jsonl",
    "curves": "2-train/curves.jsonl",
    "trials": "4-search/trials.jsonl",
    "random": "4-search/random.jsonl",
    "finetune": "5-prune/finetune/curves.jsonl",
}


@dataclass(frozen=True)
class Results:
    """Every result file of a run, by a short name.

    Args:
        folder: the run.
        records: one mapping per JSON file; empty when there is no such file.
        journals: the records of each file of JSON lines.
        job_text: the resolved job as YAML.
        problems: files that could not be read, and why.
        subset_controls: of every set of tasks that `mtnas control --tasks` was asked for.
    """

    folder: Path
    records: Mapping[str, Record]
    journals: Mapping[str, tuple[Record, ...]]
    job_text: str
    problems: tuple[str, ...]
    subset_controls: tuple[Record, ...] = ()

    def __getitem__(self, name: str) -> Record:
        return self.records[name]

    def lines(self, name: str) -> tuple[Record, ...]:
        return self.journals[name]

    @cached_property
    def job(self) -> Record:
        """The resolved job as plain values."""
        try:
            job = yaml.safe_load(self.job_text)
        except yaml.YAMLError:
            return {}
        return job if isinstance(job, Mapping) else {}

    @property
    def name(self) -> str:
        return str(self.job.get("name") or self.folder.name)


def gather(folder: Path) -> Results:
    """Read a run folder; raises `CheckpointError` when there is none."""
    if not folder.is_dir():
        raise CheckpointError("the folder of a run", received="no folder", where=str(folder), cure="name runs/<job>")
    problems: list[str] = []
    records = {name: _record(folder / path, problems) for name, path in FILES.items()}
    journals = {name: _journal(folder / path, problems) for name, path in JOURNALS.items()}
    job = folder / "job.resolved.yaml"
    text = job.read_text(encoding="utf-8", errors="replace") if job.is_file() else ""
    parts = [_record(path, problems) for path in sorted(folder.glob(SUBSET_CONTROLS))]
    return Results(folder, records, journals, text, tuple(problems), tuple(part for part in parts if part))


def _record(path: Path, problems: list[str]) -> Record:
    if not path.is_file():
        return {}
    try:
        record = read_json(path)
    except CheckpointError as error:
        problems.append(f"{path.parent.name}/{path.name}: {error.received}")
        return {}
    return record if isinstance(record, Mapping) else {}


def _journal(path: Path, problems: list[str]) -> tuple[Record, ...]:
    """The records of a journal without its header, the one that names a schema."""
    try:
        return tuple(record for record in Journal(path).records() if "schema" not in record)
    except CheckpointError as error:
        problems.append(f"{path.parent.name}/{path.name}: {error.received}")
        return ()
