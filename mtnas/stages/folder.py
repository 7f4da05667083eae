"""The folder of a run: one writer at a time, stages that know their inputs, nothing overwritten.

A stage folder starts with `inputs.json` (the hash of everything the stage depends on) and ends with `stage.json` (the
same hash and the hash of its result). Equal hashes: finished stages are skipped, unfinished ones continue. Another
hash: the folder is set aside under a new name, never mixed and never deleted.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtnas.base.errors import StorageError
from mtnas.base.files import content_hash, make_folder, read_json, storage_error, write_json
from mtnas.base.journal import Journal

FOLDERS: dict[str, str] = {
    "space": "1-space",
    "train": "2-train",
    "profile": "3-profile",
    "search": "4-search",
    "prune": "5-prune",
    "quantize": "6-quantize",
    "export": "7-export",
    "verify": "8-verify",
    "report": "report",
}


class RunFolder:
    """Paths, lock, events and stage bookkeeping of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, name: str) -> Path:
        return self.path / FOLDERS[name]

    def result(self, name: str, file: str) -> Any:
        """A result file of an earlier stage."""
        return read_json(self.stage(name) / file)

    def event(self, stage: str, event: str, **fields: float | str) -> None:
        """Append one line to `events.jsonl`."""
        Journal(self.path / "events.jsonl").append({"time": time.time(), "stage": stage, "event": event, **fields})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; raises `StorageError` when another live process holds it."""
        make_folder(self.path)
        lock = self.path / ".lock"
        try:
            stream = lock.open("a+")
        except OSError as error:
            raise storage_error(error, lock) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                stream.seek(0)
                raise StorageError(
                    "a folder that no other run is using",
                    received=f"process {stream.read().strip() or 'unknown'} is running here",
                    where=str(self.path),
                    cure="wait for it, or choose another folder with --out",
                ) from error
            stream.seek(0)
            stream.truncate()
            stream.write(str(os.getpid()))
            stream.flush()
            yield

    # --- stages -----------------------------------------------------------------------------------------------

    def finished(self, name: str, inputs: str) -> bool:
        """Whether this stage has already finished with exactly these inputs."""
        path = self.stage(name) / "stage.json"
        return path.exists() and read_json(path, schema="stage/1")["inputs"] == inputs

    def begin(self, name: str, inputs: str) -> Path:
        """The stage's folder, ready to start or to continue."""
        folder = self.stage(name)
        marker = folder / "inputs.json"
        ours = marker.exists() and read_json(marker, schema="inputs/1")["inputs"] == inputs
        if not ours and folder.exists() and any(folder.iterdir()):
            self._set_aside(name)
        make_folder(folder)
        write_json(marker, {"schema": "inputs/1", "inputs": inputs})
        return folder

    def finish(self, name: str, inputs: str, result: Any, seconds: float) -> None:
        """Mark the stage as done; `result` is whatever later stages depend on."""
        record = {"schema": "stage/1", "inputs": inputs, "result": content_hash(result), "seconds": round(seconds, 3)}
        write_json(self.stage(name) / "stage.json", record)

    def result_hash(self, name: str) -> str:
        return str(read_json(self.stage(name) / "stage.json", schema="stage/1")["result"])

    def _set_aside(self, name: str) -> None:
        folder = self.stage(name)
        number = 1
        while (target := folder.with_name(f"{folder.name}.superseded-{number}")).exists():
            number += 1
        try:
            folder.rename(target)
        except OSError as error:
            raise storage_error(error, folder) from error
        self.event(name, "set-aside", text=f"made from other inputs; kept as {target.name}")
