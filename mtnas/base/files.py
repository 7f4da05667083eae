"""Files that survive a crash: atomic writes, canonical JSON, content hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtnas.base.errors import CheckpointError, StorageError

#: write errors that the user can mend, and how
STORAGE_CURES: dict[int, str] = {
    errno.ENOSPC: "free some space or choose another folder with --out; the same command resumes",
    errno.EDQUOT: "free some of your quota or choose another folder with --out; the same command resumes",
    errno.EROFS: "choose a folder that can be written, with --out",
    errno.EACCES: "choose a folder that can be written, with --out",
    errno.EPERM: "choose a folder that can be written, with --out",
    errno.ENOTDIR: "choose a folder with --out; a file is in the way",
    errno.EEXIST: "choose a folder with --out; a file is in the way",
}


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def storage_error(error: OSError, path: Path) -> StorageError:
    """The user's version of a write error: full disk, read-only folder, missing rights."""
    cure = STORAGE_CURES.get(error.errno or 0, "check the folder; the same command resumes")
    return StorageError(
        "a folder that can be written", received=error.strerror or str(error), where=str(path), cure=cure
    )


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; raise `StorageError` when that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


def write_bytes(path: Path, data: bytes) -> None:
    """Write through a temporary file and a rename, durable before it returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise storage_error(error, path) from error


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, *, schema: str | None = None) -> Any:
    """Read JSON; raise `CheckpointError` when it is missing, torn, or of another schema.

    Args:
        path: the file.
        schema: required value of the top-level key `schema`, such as `train/1`.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            "a result file", received="no file", where=str(path), cure="run the stage that writes it"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            "valid JSON", received=str(error), where=str(path), cure="delete this file; the same command makes it again"
        ) from error
    if schema is not None and (not isinstance(value, Mapping) or value.get("schema") != schema):
        found = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
        raise CheckpointError(
            f"schema {schema!r}",
            received=repr(found),
            where=str(path),
            cure="it was written by another version: use a new --out",
        )
    return value
