"""The far end of an ssh connection: small errands on the device. Standard library only, one file, nothing of ours.

The host starts `python3 -c 'read this source from standard input and run it' REQUEST`, where REQUEST is JSON in
base64: no name of a network, a device or a folder ever reaches a shell. Answers are JSON lines. Below one folder:

    blobs/<sha256>          runner, jobs, networks, recipes
    sessions/<id>/          results.jsonl, run.lock (held by a living runner), pid, log
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import importlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

_OLD_S = 7 * 24 * 3600.0


def reply(**record: Any) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


# --- errands ---


def check(request: dict[str, Any]) -> None:
    """What is installed here."""
    found: dict[str, str | None] = {}
    for name in request["modules"]:
        try:
            found[name] = str(getattr(importlib.import_module(name), "__version__", "unknown"))
        except Exception as error:  # noqa: BLE001 - a broken installation may raise anything
            missing = isinstance(error, ImportError) and getattr(error, "name", "") == name
            found[name] = None if missing else "broken: " + str(error).strip().split("\n")[0][:200]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free_mb = shutil.disk_usage(os.path.expanduser("~")).free / 1e6
    system = platform.system() + " " + platform.release()
    version, locks = platform.python_version(), importlib.util.find_spec("fcntl") is not None
    reply(event="check", python=version, modules=found, cores=cores, cpu=_cpu(), free_mb=free_mb, system=system,
          machine=platform.machine(), locks=locks)  # fmt: skip


def enter(request: dict[str, Any]) -> None:
    """Make the folders of a session, forget sessions nobody came back for, and say which files are missing."""
    folder = _folder(request)
    made: list[str] = []
    for path in (folder, os.path.join(folder, "blobs"), os.path.join(folder, "sessions")):
        _make(path, made)
    if made:
        _note_made(folder, made)
    _make(_session(request), [])
    for name in os.listdir(os.path.join(folder, "sessions")):
        path = os.path.join(folder, "sessions", name)
        if path != _session(request) and time.time() - os.path.getmtime(path) > _OLD_S and not _alive(path):
            shutil.rmtree(path, ignore_errors=True)
    os.utime(_session(request))
    blobs = set(os.listdir(os.path.join(folder, "blobs")))
    reply(event="entered", missing=[name for name in request["blobs"] if name not in blobs])


def put(request: dict[str, Any]) -> None:
    """Files from standard input, one after the other, each under its hash, none visible before it is whole."""
    stream = sys.stdin.buffer
    for name, size in request["blobs"]:
        path = os.path.join(_folder(request), "blobs", name)
        part, digest, left = f"{path}.{os.getpid()}.part", hashlib.sha256(), size
        try:
            with open(part, "wb") as target:
                while left:
                    data = stream.read(min(left, 1 << 20))
                    if not data:
                        raise EOFError("the connection ended inside a file")
                    target.write(data)
                    digest.update(data)
                    left -= len(data)
                target.flush()
                os.fsync(target.fileno())
            if digest.hexdigest() != name:
                raise ValueError("a file arrived changed")
            os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.unlink(part)
    reply(event="stored")


def start(request: dict[str, Any]) -> None:
    """Start the runner, detached, unless one lives; its lock is taken here and inherited, so none starts twice."""
    session, folder = _session(request), _folder(request)
    lock = _try_lock(session)
    if lock is None:
        reply(event="started", started=False)
        return
    runner = os.path.join(folder, "blobs", request["runner"])
    command = [sys.executable, runner, "session", session, request["job"], request["run"]]
    with open(os.path.join(session, "log"), "ab") as log, open(os.devnull, "rb") as nothing:
        child = subprocess.Popen(command, stdin=nothing, stdout=log, stderr=log, start_new_session=True, cwd=session,
                                 pass_fds=(lock,))  # fmt: skip
    with open(os.path.join(session, "pid"), "w") as stream:
        stream.write(str(child.pid))
    os.close(lock)
    reply(event="started", started=True, pid=child.pid)


def tail(request: dict[str, Any]) -> None:
    """Stream the results from an offset on, whole lines only, until no runner lives and nothing is left to read."""
    session, offset, told = _session(request), request["offset"], time.monotonic()
    path = os.path.join(session, "results.jsonl")
    while True:
        alive = _alive(session)
        data = _whole_lines(path, offset)
        if data is None:
            reply(event="tail", state="shorter")
            return
        if data:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            offset, told = offset + len(data), time.monotonic()
            continue
        if not alive:
            reply(event="tail", state="ended", log=_log(session))
            return
        if time.monotonic() - told > request["beat_s"]:
            reply(event="tail", state="alive")
            told = time.monotonic()
        time.sleep(0.2)  # seldom: whatever runs here beside a measurement disturbs it


def leave(request: dict[str, Any]) -> None:
    """Stop the session's runner and remove the session; with the last one, all that was ever put here.

    What is kept after the end is put aside, so that the same command measures anew.
    """
    session, folder = _session(request), _folder(request)
    _stop(session)
    if request["keep"]:
        if request["finished"] and os.path.isdir(session):
            os.replace(session, f"{session}.{time.time():.0f}")
    else:
        shutil.rmtree(session, ignore_errors=True)
        sessions = os.path.join(folder, "sessions")
        if os.path.isdir(sessions) and not os.listdir(sessions):
            made = _read_made(folder)
            for name in ("blobs", "sessions"):
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
            _remove_empty(folder, made)
    reply(event="left")


VERBS = {"check": check, "enter": enter, "put": put, "start": start, "tail": tail, "leave": leave}


# --- parts ---


def _folder(request: dict[str, Any]) -> str:
    return os.path.abspath(os.path.join(os.path.expanduser("~"), os.path.expanduser(request["folder"])))


def _session(request: dict[str, Any]) -> str:
    return os.path.join(_folder(request), "sessions", request["session"])


def _make(path: str, made: list[str]) -> None:
    """Make a folder for this user alone; collect the ones that were not there."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for each in reversed(missing):
        try:
            os.mkdir(each, 0o700)
            made.append(each)
        except FileExistsError:
            pass


def _note_made(folder: str, made: list[str]) -> None:
    with open(os.path.join(folder, "made.json"), "a") as stream:
        stream.write(json.dumps(made) + "\n")


def _read_made(folder: str) -> list[str]:
    try:
        with open(os.path.join(folder, "made.json")) as stream:
            return [path for line in stream for path in json.loads(line)]
    except (OSError, ValueError):
        return []


def _remove_empty(folder: str, made: list[str]) -> None:
    """Remove the folders that were made here, as far as they are empty."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, "made.json"))
    for path in sorted(set(made), key=len, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _try_lock(session: str) -> int | None:
    """The session's lock, or None while a runner holds it."""
    import fcntl

    descriptor = os.open(os.path.join(session, "run.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _alive(session: str) -> bool:
    if not os.path.isdir(session):
        return False
    lock = _try_lock(session)
    if lock is not None:
        os.close(lock)
    return lock is None


def _stop(session: str) -> None:
    """End the runner, kindly at first; the pid is its own, for the lock is still held."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if not _alive(session):
            return
        try:
            with open(os.path.join(session, "pid")) as stream:
                os.kill(int(stream.read()), sign)
        except (OSError, ValueError):
            return
        end = time.monotonic() + 3.0
        while time.monotonic() < end and _alive(session):
            time.sleep(0.02)


def _whole_lines(path: str, offset: int) -> bytes | None:
    """Bytes up to the last line end; None when the file is shorter than it was."""
    try:
        size = os.path.getsize(path)
    except OSError:
        size = 0
    if size < offset:
        return None
    if size == offset:
        return b""
    with open(path, "rb") as stream:
        stream.seek(offset)
        data = stream.read(1 << 20)
        while b"\n" not in data:
            more = stream.read(1 << 20)
            if not more:
                return b""
            data += more
    return data[: data.rindex(b"\n") + 1]


def _log(session: str) -> str:
    try:
        with open(os.path.join(session, "log"), "rb") as stream:
            return stream.read()[-600:].decode("utf-8", "replace")
    except OSError:
        return ""


def _cpu() -> dict[str, Any]:
    try:
        with open("/proc/cpuinfo", errors="replace") as stream:
            lines = [line.partition(":") for line in stream]
    except OSError:
        return {"model": platform.processor() or platform.machine(), "flags": []}
    models = [value.strip() for key, _, value in lines if key.strip() in ("model name", "Model")]
    flags = [value.split() for key, _, value in lines if key.strip() in ("flags", "Features")]
    return {"model": models[0] if models else platform.machine(), "flags": flags[0] if flags else []}


def main(text: str) -> None:
    """Run one errand; a failure is an answer, too."""
    request = json.loads(base64.b64decode(text).decode("utf-8"))
    try:
        VERBS[request["verb"]](request)
    except Exception as error:  # noqa: BLE001 - the border of a process: every failure becomes a record
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reply(event="failed", full=full, text=type(error).__name__ + ": " + str(error))
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
