"""The folder of a run: one writer at a time, stages that know their inputs, nothing overwritten.

A stage folder starts with `inputs.json` (the hash of everything the stage depends on) and ends with `stage.json` (the
same hash, the hash of its result, and the hashes of its files). Equal hashes: finished stages are skipped, unfinished
ones continue. Another hash: the folder is set aside under a new name, never mixed and never deleted. A file that was
changed after its stage had finished is refused.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtnas.base.errors import CheckpointError, StorageError
from mtnas.base.files import content_hash, file_hash, make_folder, read_json, storage_error, write_json
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
    "certify": "9-certify",
    "references": "references",
    "report": "report",
}
#: what later stages never read: bookkeeping, checkpoints, which carry their own hash, and attempts that a verb may add
_UNWATCHED = frozenset({"inputs.json", "stage.json", "checkpoint.safetensors", "certificates.jsonl"})


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
            try:
                stream.seek(0)
                stream.truncate()
                stream.write(str(os.getpid()))
                stream.flush()
            except OSError as error:
                raise storage_error(error, lock) from error
            yield

    # --- stages -----------------------------------------------------------------------------------------------

    def finished(self, name: str, inputs: str) -> bool:
        """Whether this stage has already finished with exactly these inputs, and its files are as it left them."""
        path = self.stage(name) / "stage.json"
        if not path.exists():
            return False
        record = read_json(path, schema="stage/1")
        if record["inputs"] != inputs:
            return False
        self._check_files(name, record.get("files", {}))
        return True

    def _check_files(self, name: str, expected: dict[str, str]) -> None:
        folder = self.stage(name)
        for file, digest in expected.items():
            path = folder / file
            if not path.is_file() or file_hash(path) != digest:
                raise CheckpointError(
                    f"the file as the stage {name} wrote it",
                    received="a changed file" if path.exists() else "no file",
                    where=str(path),
                    cure=f"restore it, or delete {folder / 'stage.json'}: the same command then makes it again "
                    "from what the stage has kept",
                )

    def begin(self, name: str, inputs: str, note: Callable[[str], None] = lambda text: None) -> Path:
        """The stage's folder, ready to start or to continue; `note` is told where an earlier one went."""
        folder = self.stage(name)
        marker = folder / "inputs.json"
        ours = marker.exists() and read_json(marker, schema="inputs/1")["inputs"] == inputs
        if not ours and folder.exists() and any(folder.iterdir()):
            note(f"{name}: made from other inputs before; that is kept as {self._set_aside(name)}")
        make_folder(folder)
        for leftover in folder.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        write_json(marker, {"schema": "inputs/1", "inputs": inputs})
        return folder

    def finish(self, name: str, inputs: str, result: Any, seconds: float) -> None:
        """Mark the stage as done; `result` is whatever later stages depend on."""
        record = {"schema": "stage/1", "inputs": inputs, "result": content_hash(result), "seconds": round(seconds, 3)}
        write_json(self.stage(name) / "stage.json", {**record, "files": _hashes(self.stage(name))})

    def reopen(self, name: str) -> None:
        """The next command does this stage again, in the same folder."""
        (self.stage(name) / "stage.json").unlink(missing_ok=True)

    def result_hash(self, name: str) -> str:
        return str(read_json(self.stage(name) / "stage.json", schema="stage/1")["result"])

    def _set_aside(self, name: str) -> str:
        folder = self.stage(name)
        number = 1
        while (target := folder.with_name(f"{folder.name}.superseded-{number}")).exists():
            number += 1
        try:
            folder.rename(target)
        except OSError as error:
            raise storage_error(error, folder) from error
        self.event(name, "set-aside", text=f"made from other inputs; kept as {target.name}")
        return target.name


def _hashes(folder: Path) -> dict[str, str]:
    """Hash of every file that a stage leaves to later ones."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in files if path.name not in _UNWATCHED and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in kept}
