"""Append-only JSON lines: each record is durable before the next begins; a torn last line is tolerated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtnas.base.errors import CheckpointError
from mtnas.base.files import storage_error


class Journal:
    """A file of JSON lines that only grows.

    A crash can tear the last line only; it is cut off at the next append, since its record never became durable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> list[dict[str, Any]]:
        """All complete records; raises `CheckpointError` when a line before the last is damaged."""
        return list(self._read())

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and wait until the disk has it."""
        line = json.dumps(record, sort_keys=True, allow_nan=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                keep = self._durable_length()
                if stream.tell() != keep:
                    stream.truncate(keep)
                    stream.seek(keep)
                stream.write(line.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise storage_error(error, self.path) from error

    def _durable_length(self) -> int:
        """Bytes up to and including the last newline."""
        size = self.path.stat().st_size
        with self.path.open("rb") as stream:
            position = size
            while position > 0:
                step = min(65536, position)
                stream.seek(position - step)
                found = stream.read(step).rfind(b"\n")
                if found >= 0:
                    return position - step + found + 1
                position -= step
        return 0

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        lines = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            try:
                yield json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise CheckpointError(
                    "one JSON record a line",
                    received=str(error),
                    where=f"{self.path}:{number}",
                    cure="the journal was edited or the disk is damaged: restore it, or use a new --out",
                ) from error
