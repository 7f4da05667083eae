"""A device behind ssh: jobs run there by themselves, and this end only reads along.

The runner, the job and its networks travel once, under their content hashes. The runner goes on when the connection
breaks; we come back and read on from the byte where we were. A runner that died is started again and skips what is
done. What is on the device is removed at the end; after a crash of this end it waits there for the same command.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from mtnas.base.errors import DeviceMissing, InternalError, UserError
from mtnas.base.progress import Progress
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import DeviceDescription
from mtnas.measure.lock import exclusive
from mtnas.measure.reach.base import Model, Reach, Record, flat
from mtnas.measure.reach.packing import Package, pack
from mtnas.measure.reach.ssh_connection import BEAT_S, Connection
from mtnas.measure.reach.ssh_errors import ConnectionLost, job_failure, missing
from mtnas.measure.reach.ssh_settings import SshSettings

_LONGEST_PAUSE_S = 20.0
_DEATHS = 3  # runners that may die one after the other without a single record


class SshReach:
    """One session on a device behind ssh: a context manager.

    Args:
        device: with its `ssh` mapping.
        config: how to measure; part of the session's name.
        purpose: part of the session's name, too.
        progress: told about waiting and reconnecting.
    """

    def __init__(self, device: DeviceDescription, config: MeasureConfig, purpose: str, progress: Progress) -> None:
        self.settings = SshSettings.of(device.ssh, f"{device.name}: ssh")
        self.session = session_name(device.name, config, purpose)
        self.connection = Connection(self.settings)
        self._wait_s, self._progress = config.lock_wait_s, progress
        self._stack = ExitStack()
        self._offset = 0
        self._found: dict[str, Record] = {}
        self._circumstances: Record = {}
        self._log = ""

    def __enter__(self) -> Reach:
        lock = Path(tempfile.gettempdir()) / f"mtnas-ssh-{os.getuid()}-{self.session}.lock"
        with ExitStack() as stack:
            stack.callback(self.connection.close)
            stack.enter_context(exclusive(self._wait_s, self._progress, lock))
            self.connection.open()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the session; one that was interrupted or cut off stays, so that the same command goes on."""
        with self._stack:
            if kind is None or (issubclass(kind, UserError) and not _worth_keeping(error)):
                self._leave(self.settings.keep, finished=True)
            elif issubclass(kind, KeyboardInterrupt):
                self._leave(keep=True, finished=False)

    def run(self, job: Mapping[str, Any], models: Mapping[str, Model]) -> Iterator[Record]:
        """The environment, then each network's record as the device finishes it; without any, only be there."""
        if not models:
            enter = {"verb": "enter", "session": self.session, "blobs": []}
            self._insist(partial(self.connection.ask, enter))
            return
        package = pack(job, models)
        waiting, deaths, told = dict(package.keys), 0, False
        while True:
            run = uuid.uuid4().hex
            before = self._offset
            self._insist(partial(self._begin, package, run))
            for record in self._follow(run):
                for ready in self._ready(record, waiting):
                    if not told:
                        told = True
                        yield self._circumstances
                    yield {**ready, "name": package.keys[ready["key"]]}
            for key in [key for key in waiting if key in self._found]:  # read earlier, in a run that was cut off
                del waiting[key]
                if not told:
                    told = True
                    yield self._circumstances
                yield {**self._found[key], "name": package.keys[key]}
            if not waiting:
                return
            if "ModuleNotFoundError" in self._log:
                raise job_failure(self._log, self.settings.title, self.settings.python)
            deaths = 0 if self._offset > before else deaths + 1
            if deaths >= _DEATHS:
                raise missing("a runner that stays alive", self._log, self.settings.title, "see `dmesg` there: memory?")
            self._progress.note(f"{self.settings.title}: the runner died; it is started again")

    def _ready(self, record: Record, waiting: dict[str, str]) -> Iterator[Record]:
        """Take note of a record; gives it when it is one that the job waits for."""
        event = record.get("event")
        if event == "environment":
            self._circumstances = record
        elif event == "waiting":
            self._progress.note(f"{self.settings.title}: another measurement is running there")
        elif "key" in record:
            self._found[record["key"]] = record
            if waiting.pop(record["key"], None) is not None:
                yield record

    def _begin(self, package: Package, run: str) -> None:
        """Everything in place, and a runner at work."""
        session = {"session": self.session}
        answer = self.connection.ask({"verb": "enter", "blobs": list(package.blobs), **session})
        lacking = [(name, len(package.blobs[name])) for name in answer["missing"]]
        if lacking:
            parts = (package.blobs[name] for name, _ in lacking)
            self.connection.ask({"verb": "put", "blobs": lacking}, parts)
        self.connection.ask({"verb": "start", "runner": package.runner, "job": package.job, "run": run, **session})

    def _follow(self, run: str) -> Iterator[Record]:
        """Records from where we stopped reading, until this run says it is done or no runner lives."""
        last, pause = time.monotonic(), 0.5
        while True:
            heard = False
            try:
                request = {"verb": "tail", "session": self.session, "offset": self._offset, "beat_s": BEAT_S}
                for line in self.connection.lines(request):
                    record = json.loads(line)
                    if record.get("event") != "tail":
                        self._offset += len(line)
                        last, pause = time.monotonic(), 0.5
                        if record.get("run") == run and record["event"] == "done":
                            return
                        if record.get("run") == run and record["event"] == "error":
                            raise job_failure(record["text"], self.settings.title, self.settings.python)
                        yield from flat(record)
                    elif record["state"] == "ended":
                        self._log = record["log"]
                        return
                    elif record["state"] == "shorter":
                        self._offset = 0
                        heard = True
                    elif time.monotonic() - last > self.settings.patience_s:
                        raise self._gave_up("the runner lives and says nothing")
                if not heard:
                    raise ConnectionLost("the stream ended")
            except ConnectionLost as lost:
                pause = self._pause(lost, last, pause)

    def _insist(self, errand: Callable[[], object]) -> None:
        """Run an errand, again and again when the connection breaks meanwhile."""
        last, pause = time.monotonic(), 0.5
        while True:
            try:
                errand()
                return
            except ConnectionLost as lost:
                pause = self._pause(lost, last, pause)

    def _pause(self, lost: ConnectionLost, last: float, pause: float) -> float:
        """Wait before another attempt; longer each time, and not for ever."""
        if time.monotonic() - last > self.settings.patience_s:
            raise self._gave_up(str(lost)) from lost
        self._progress.note(f"{self.settings.title}: connection lost ({lost}); trying again")
        time.sleep(pause)
        return min(2.0 * pause, _LONGEST_PAUSE_S)

    def _gave_up(self, text: str) -> DeviceMissing:
        cure = "the device keeps what it has measured; the same command goes on from there"
        return missing(f"no word for {self.settings.patience_s:g} s", text, self.settings.title, cure)

    def _leave(self, keep: bool, *, finished: bool) -> None:
        """Tidy up on the device; whatever cannot be tidied now is forgotten there after a week."""
        try:
            self.connection.ask({"verb": "leave", "session": self.session, "keep": keep, "finished": finished})
        except (ConnectionLost, DeviceMissing) as error:
            self._progress.note(f"{self.settings.title}: files are left in {self.settings.folder} ({error})")


def _worth_keeping(error: BaseException | None) -> bool:
    return isinstance(error, InternalError) or "goes on from there" in str(error)


def session_name(device: str, config: MeasureConfig, purpose: str) -> str:
    """The same for the same command on the same host: device, settings, purpose, who and where we are."""
    asked = [device, asdict(config), purpose, platform.node(), os.getuid(), str(Path.cwd())]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode("utf-8")).hexdigest()[:24]
