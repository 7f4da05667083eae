"""One multiplexed ssh connection: errands of `mtnas.device.agent` run over it, each a short command.

The system's own `ssh` does the work, so that the user's aliases, keys, agents and jump hosts hold. Nothing but a
constant program and base64 reaches the shell over there; the agent's source and all files come through standard input.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtnas.base.errors import DeviceMissing
from mtnas.device import agent
from mtnas.measure.reach.ssh_errors import ConnectionLost, classify, full, missing, remote_failure
from mtnas.measure.reach.ssh_settings import SshSettings

_ALWAYS = ("BatchMode=yes", "ForwardX11=no", "ForwardAgent=no", "ClearAllForwardings=yes", "LogLevel=ERROR")
_DEFAULTS = ("StrictHostKeyChecking=yes", "ConnectTimeout=15", "ServerAliveInterval=5", "ServerAliveCountMax=3")
_SILENT_S = 30.0  # the agent says something every few seconds
BEAT_S = 5.0

#: run a source that arrives on standard input; no character of it means anything to a shell beyond the quotes
_BOOT = (
    "import sys;v=sys.version_info;"
    'v<(3,8)and sys.exit("mtnas-python %d.%d"%(v[0],v[1]));'
    "exec(sys.stdin.buffer.read({size}))"
)


class Connection:
    """A master connection in the background, opened anew when it broke.

    Args:
        settings: where to.
    """

    def __init__(self, settings: SshSettings) -> None:
        if shutil.which("ssh") is None:
            raise DeviceMissing("the program ssh", received="none on PATH", where="reach: ssh", cure="install OpenSSH")
        self.settings = settings
        self.opened = 0
        self._folder = _short_folder()
        self._socket = self._folder / "m"
        self.master: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Connect, unless connected; raises `DeviceMissing` or `ConnectionLost`."""
        if self.master is not None and self.master.poll() is None and self._socket.exists():
            return
        self._drop()
        log = self._folder / "log"
        with log.open("wb") as stream:
            command = [*self._ssh("ControlMaster=yes"), "-N", self.settings.host]
            self.master = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )
        end = time.monotonic() + 120.0
        while not self._socket.exists():
            if self.master.poll() is not None or time.monotonic() > end:
                self._drop()
                text = log.read_text(encoding="utf-8", errors="replace")
                raise classify(text, self.settings.title, first=self.opened == 0)
            time.sleep(0.01)
        self.opened += 1

    def close(self) -> None:
        """End the connection and remove its socket."""
        self._drop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, request: Mapping[str, Any], payload: Iterable[bytes] = ()) -> dict[str, Any]:
        """One errand and its one answer."""
        for line in self.lines(request, payload, _SILENT_S * 4):
            answer: dict[str, Any] = json.loads(line)
            return answer
        raise ConnectionLost("no answer")

    def lines(
        self, request: Mapping[str, Any], payload: Iterable[bytes] = (), silent_s: float = _SILENT_S
    ) -> Iterator[bytes]:
        """Lines of an errand's answer, as they come, line ends included."""
        self.open()
        source = Path(agent.__file__).read_bytes()
        command = [*self._ssh("ControlMaster=no"), "-T", self.settings.host, self._command(request, len(source))]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
            try:
                broken = _feed(process, [source, *payload])
                for line in _read_lines(process, silent_s):
                    self._check(line)
                    yield line
                status = process.wait(10.0)
                errors.seek(0)
                text = errors.read().decode("utf-8", "replace")
                if status == 255 or status < 0:
                    raise classify(text, self.settings.title, first=False)
                if status != 0:
                    raise remote_failure(status, text, self.settings.title, self.settings.python)
                if broken:
                    raise ConnectionLost("the far end stopped listening")
            except subprocess.TimeoutExpired as error:
                raise ConnectionLost("ssh does not end") from error
            finally:
                _end(process)

    def _command(self, request: Mapping[str, Any], size: int) -> str:
        """What the far shell gets: the interpreter, a constant program, base64."""
        text = json.dumps({"folder": self.settings.folder, **request})
        encoded = base64.b64encode(text.encode("utf-8")).decode("ascii")
        python = _quoted_program(self.settings.python)
        return f"exec {python} -c {shlex.quote(_BOOT.replace('{size}', str(size)))} {encoded}"

    def _check(self, line: bytes) -> None:
        """Raise when the line is the agent's admission of failure."""
        if not line.startswith(b'{"event": "failed"'):
            return
        answer = json.loads(line)
        if answer["full"]:
            raise full(answer["text"], self.settings.title)
        if answer["text"].startswith(("EOFError", "ValueError: a file arrived changed")):
            raise ConnectionLost(answer["text"])
        cure = "see ssh.folder in the device.yaml: may we write there?"
        raise missing("an errand on the device failed", answer["text"], self.settings.title, cure)

    def _ssh(self, *options: str) -> list[str]:
        """ssh with what always holds; the first mention of an option wins, so the device's own come before defaults."""
        words = ["ssh", "-S", str(self._socket), *(w for option in (*_ALWAYS, *options) for w in ("-o", option))]
        return words + self.settings.words() + [w for option in _DEFAULTS for w in ("-o", option)]

    def _drop(self) -> None:
        if self.master is not None:
            _end(self.master)
        self.master = None
        with suppress(OSError):
            self._socket.unlink()


def _short_folder() -> Path:
    """A private folder whose path leaves room for a socket's name, which is limited to about a hundred bytes."""
    folder = Path(tempfile.mkdtemp(prefix="mtnas-"))
    if len(os.fsencode(folder)) > 70 and Path("/tmp").is_dir():
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="mtnas-", dir="/tmp"))
    return folder


def _quoted_program(python: str) -> str:
    """A program's name for the shell; a leading `~/` stays outside the quotes, so that it means the home folder."""
    return "~/" + shlex.quote(python[2:]) if python.startswith("~/") else shlex.quote(python)


def _feed(process: subprocess.Popen[bytes], parts: Iterable[bytes]) -> bool:
    """Write everything to standard input and close it; whether the other side stopped listening."""
    assert process.stdin is not None
    try:
        for part in parts:
            process.stdin.write(part)
        process.stdin.close()
    except OSError:
        with suppress(OSError):
            process.stdin.close()
        return True
    return False


def _read_lines(process: subprocess.Popen[bytes], silent_s: float) -> Iterator[bytes]:
    """Whole lines of standard output; raises `ConnectionLost` when nothing comes for too long."""
    assert process.stdout is not None
    descriptor, rest = process.stdout.fileno(), b""
    while True:
        if not select.select([descriptor], [], [], silent_s)[0]:
            raise ConnectionLost(f"nothing was heard for {silent_s:g} s")
        data = os.read(descriptor, 1 << 16)
        if not data:
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from (line + b"\n" for line in whole)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process of ours and collect it."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(3.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
