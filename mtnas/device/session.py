"""A session: a job that nobody waits for, its records kept in a file until the host has read them.

    FOLDER/results.jsonl   every record, appended and synced; a torn last line is cut off when the next run starts
    FOLDER/../../blobs     files under their content hash: this runner, the job, networks

Each network of a job has a key; a network whose key is in the file is not measured again. The lock of the machine is
the one that `mtnas` itself holds while it measures here.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from typing import Any, Callable, Sequence

from .store import Store

RESULTS = "results.jsonl"


def run_session(folder: str, job_sha256: str, run: str, run_job: Callable[..., None]) -> int:
    """Run what is left of a job; 0, or 1 with an error record."""
    blobs = os.path.join(os.path.dirname(os.path.dirname(folder)), "blobs")
    results = Results(os.path.join(folder, RESULTS))
    try:
        with open(os.path.join(blobs, job_sha256), encoding="utf-8") as stream:
            job = json.load(stream)
        left = unfinished(job, results.keys)
        if left["models"]:
            with _MachineLock(job.get("lock_wait_s", 300.0), results):
                keys = job["keys"]
                run_job(left, Store(blobs), lambda records: results.add(records, keys))
    except Exception as error:  # noqa: BLE001 - the border of a process: every failure becomes a record
        results.add([{"event": "error", "run": run, "text": type(error).__name__ + ": " + str(error)}])
        return 1
    results.add([{"event": "done", "run": run}])
    return 0


def unfinished(job: dict[str, Any], done: set[str]) -> dict[str, Any]:
    """The job without the networks that are done; networks measured side by side are done together or not at all."""
    anchor, keys = job.get("anchor"), job["keys"]
    wanted = [name for name in job["models"] if name in keys]
    left = [name for name in wanted if keys[name] not in done]
    if left and not anchor:
        left = wanted
    helpers = [name for name in job["models"] if name not in keys]
    names = set(left) | (set(helpers) if left else set())
    return dict(job, models={name: entry for name, entry in job["models"].items() if name in names})


class Results:
    """The file of records, synced line by line."""

    def __init__(self, path: str) -> None:
        self.keys: set[str] = set()
        self._stream = open(path, "ab+")  # noqa: SIM115 - open as long as the process lives
        self._mend()

    def add(self, records: Sequence[dict[str, Any]], keys: dict[str, str] | None = None) -> None:
        """Append records as one line; those of networks get their key and the time."""
        stamped = [_stamped(record, keys or {}) for record in records]
        line = stamped[0] if len(stamped) == 1 else {"event": "records", "records": stamped}
        self._stream.write(json.dumps(line).encode("utf-8") + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _mend(self) -> None:
        """Collect what is done and cut off a last line that was not written to its end."""
        self._stream.seek(0)
        good = 0
        for line in self._stream:
            if not line.endswith(b"\n"):
                break
            good += len(line)
            record = json.loads(line.decode("utf-8"))
            for each in record.get("records", [record]):
                if "key" in each:
                    self.keys.add(each["key"])
        self._stream.truncate(good)
        self._stream.seek(0, os.SEEK_END)


def _stamped(record: dict[str, Any], keys: dict[str, str]) -> dict[str, Any]:
    key = keys.get(record.get("name", ""))
    return record if key is None else dict(record, key=key, time_s=round(time.time(), 3))


class _MachineLock:
    """Wait for another measurement on this machine; tell the host once."""

    def __init__(self, wait_s: float, results: Results) -> None:
        self._wait_s, self._results, self._descriptor = wait_s, results, -1

    def __enter__(self) -> None:
        import fcntl

        path = os.path.join(tempfile.gettempdir(), f"mtnas-measure-{os.getuid()}.lock")
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        start, told = time.monotonic(), False
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() - start > self._wait_s:
                    text = f"another measurement has been running on the device for more than {self._wait_s:g} s"
                    raise RuntimeError(text) from error
            if not told:
                self._results.add([{"event": "waiting"}])
                told = True
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
