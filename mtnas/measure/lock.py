"""One measurement at a time on a machine: two of them would each see the other as noise."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mtnas.base.errors import DeviceMissing
from mtnas.base.progress import Progress, Silent


@contextlib.contextmanager
def exclusive(wait_s: float, progress: Progress | None = None, path: Path | None = None) -> Iterator[None]:
    """Hold this machine's measuring lock; a process that dies lets go of it."""
    if importlib.util.find_spec("fcntl") is None:  # a system without file locks: measure anyway
        yield
        return
    path = path or Path(tempfile.gettempdir()) / f"mtnas-measure-{os.getuid()}.lock"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        _acquire(descriptor, wait_s, progress or Silent())
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, wait_s: float, progress: Progress) -> None:
    import fcntl

    start, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() - start > wait_s:
                raise DeviceMissing(
                    "this machine to itself while measuring",
                    received=f"another measurement has been running for more than {wait_s:g} s",
                    where="device",
                    cure="wait until it ends, or raise device.lock_wait_s",
                ) from error
        if not told:
            progress.note("waiting for another measurement on this machine")
            told = True
        time.sleep(0.05)
