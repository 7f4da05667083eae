"""What ssh and the far end say when they fail, in sentences with a cure."""

from __future__ import annotations

import re

from mtnas.base.errors import DeviceMissing
from mtnas.measure.reach.lacking import missing_package, what_lacks


class ConnectionLost(Exception):
    """The connection broke; trying again may help."""


#: a pattern in ssh's words -> (what is wrong, the cure)
_FATAL: tuple[tuple[str, str, str], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed",
        "the host's key is another one than before: a new system, or someone in between",
        "find out which; if the change is yours, remove the old key with `ssh-keygen -R HOST` and connect once by hand",
    ),
    (
        "Host key verification failed|No .* host key is known",
        "the host's key is not known here",
        "connect once by hand with `ssh HOST`, compare the fingerprint and confirm it",
    ),
    (
        "Permission denied|Too many authentication failures",
        "the host refuses every key offered",
        "put your public key there with `ssh-copy-id HOST`; passwords are never asked for",
    ),
    (
        "Could not resolve hostname|Name or service not known|nodename nor servname",
        "no host of that name",
        "check `ssh.host` in the device.yaml, or the alias in your ssh config",
    ),
    (
        "Bad configuration option|Bad owner or permissions|unsupported option|command-line: line 0",
        "ssh does not accept its settings",
        "check `ssh.options` in the device.yaml and your ssh config",
    ),
)
_AWAY: tuple[tuple[str, str, str], ...] = (
    ("Connection refused", "the host is there and has no ssh server on that port", "start sshd there, or set ssh.port"),
    (
        "timed out|No route to host|Network is unreachable|Host is down",
        "the host does not answer",
        "switch it on, check the network, or set ssh.host",
    ),
)


def classify(text: str, host: str, *, first: bool) -> Exception:
    """The error behind ssh's words: `DeviceMissing` where trying again is useless, `ConnectionLost` else.

    Args:
        text: what ssh wrote.
        host: for the message.
        first: whether no connection has been made yet; then a silent host is an error, too.
    """
    for pattern, wrong, cure in _FATAL + (_AWAY if first else ()):
        if re.search(pattern, text, re.IGNORECASE):
            return missing(wrong, text, host, cure)
    if first:
        return missing("ssh cannot connect", text, host, "try `ssh -v HOST` by hand")
    return ConnectionLost(last_line(text))


def remote_failure(status: int, text: str, host: str, python: str) -> Exception:
    """A command that ended badly although the connection held."""
    old = re.search(r"mtnas-python (\S+)", text)
    if old:
        return missing(
            "Python there is too old", old.group(1), host, "install Python 3.8 or later and set ssh.python to it"
        )
    if status == 127 or re.search("not found|No such file|is not recognized", text):
        return missing(f"no {python} there", text, host, "install Python 3.8 or later, or set ssh.python to its path")
    return missing("the far end failed", text or f"exit status {status}", host, "see `mtnas doctor`")


def job_failure(text: str, host: str, python: str) -> DeviceMissing:
    """A job's own error record."""
    package = missing_package(text)
    if package:
        return missing(
            f"{package} is not installed there", text, host, f"`{python} -m pip install {package}` on the device"
        )
    if re.search(r"No space left|Disk quota", text):
        return full(text, host)
    if lacking := what_lacks(text):
        return missing(lacking[0], text, host, f"on the device: {lacking[1]}")
    return missing("a measuring process that ends well", text, host, "is it a network that this runtime reads?")


def full(text: str, host: str) -> DeviceMissing:
    return missing("the disk there is full", text, host, "free some space, or set ssh.folder to another disk")


def missing(wrong: str, text: str, host: str, cure: str) -> DeviceMissing:
    return DeviceMissing(
        f"a device that can be measured: {wrong}", received=last_line(text), where=f"ssh {host}", cure=cure
    )


def last_line(text: str) -> str:
    """The last line with words in it; ssh's banner of at signs is long."""
    lines = [line.strip() for line in text.splitlines() if re.search(r"\w", line)]
    return lines[-1][:300] if lines else "no words"
