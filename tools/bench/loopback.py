"""An ssh server on this machine for tests and benchmarks: own keys, own config, a free port, as the current user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
MaxStartups 100:30:200
LogLevel VERBOSE
"""


def find_sshd() -> str | None:
    """The server's path; it insists on an absolute one."""
    return shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Loopback:
    """A running server, and what a device.yaml needs to reach it."""

    folder: Path
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        for name in ("host_key", "user_key"):
            make_key(self.folder / name)
        self.trust()
        self.start()

    def trust(self) -> None:
        """Write the server's present key into the known hosts."""
        public = (self.folder / "host_key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}")

    def start(self) -> None:
        (self.folder / "config").write_text(CONFIG.format(port=self.port, folder=self.folder))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "sshd.log").open("ab") as log:
            command = [str(find_sshd()), "-D", "-e", "-f", str(self.folder / "config")]
            self.server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + 20.0
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError((self.folder / "sshd.log").read_text())

    def cut_connections(self) -> int:
        """End every connection, as a broken line would; the listening server goes on. Returns how many."""
        assert self.server is not None
        sessions = [pid for pid in children(self.server.pid) if command_of(pid).startswith("sshd")]
        for pid in sessions:
            for each in [pid, *[p for p in children(pid) if command_of(p).startswith("sshd")]]:
                try:
                    os.kill(each, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        return len(sessions)

    def stop(self) -> None:
        if self.server is not None:
            self.cut_connections()
            self.server.terminate()
            self.server.wait()
            self.server = None

    def ssh(self, remote: Path, **more: object) -> dict[str, object]:
        """The `ssh:` mapping of a device that lies here."""
        options = [f"IdentityFile={self.folder / 'user_key'}", "IdentitiesOnly=yes"]
        options += [f"UserKnownHostsFile={self.folder / 'known_hosts'}"]
        fixed = {"host": "127.0.0.1", "port": self.port, "python": sys.executable, "folder": str(remote)}
        return {**fixed, "options": options, "patience_s": 60.0, **more}

    def device(self, folder: Path, remote: Path, name: str = "board", **more: object) -> Path:
        """Describe the device in a folder of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        data = {"name": name, "reach": "ssh", "limits": ["latency_ms", "size_mb"], "ssh": self.ssh(remote, **more)}
        (folder / "device.yaml").write_text(yaml.safe_dump(data))
        return folder


def make_key(path: Path) -> None:
    for old in (path, path.with_name(path.name + ".pub")):
        old.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def latencies(remote: Path) -> list[dict[str, Any]]:
    """The records of latency on the device's disk; a torn last line is left out."""
    found = []
    for path in (remote / "sessions").glob("*/results.jsonl"):
        for line in path.read_text().splitlines(keepends=True):
            record = json.loads(line) if line.endswith("\n") else {}
            found += [each for each in record.get("records", [record]) if each.get("event") == "latency"]
    return found


def count_latencies(remote: Path) -> int:
    """How many of them there are, without reading them."""
    paths = (remote / "sessions").glob("*/results.jsonl")
    return sum(path.read_bytes().count(b'"event": "latency"') for path in paths)


def runner_pid(remote: Path) -> int:
    """The runner that was started last."""
    return int(next((remote / "sessions").glob("*/pid")).read_text())


def children(pid: int) -> list[int]:
    """Child processes, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(entry.name))
    return found


def command_of(pid: int) -> str:
    """The first word of a process's command line."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""
