"""The `hook` part of a device.yaml: the user's own command that times one ONNX file somewhere.

hook:
  command: [python3, my_hook.py, --serial, "0123", "{model}", "{out}"]   # or one string, split like a shell does
  timeout_s: 600     # of one call
  repeats: 5         # calls a network: the rounds that it shares with the anchor
  runs: 20           # timed runs a call
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name, nearest

PLACEHOLDERS = ("model", "out", "request")
_KEYS = {"command": "", "timeout_s": "", "repeats": "", "runs": ""}
_WORD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class HookSettings:
    """How the command is called.

    Args:
        command: its words; never given to a shell. `{model}`, `{out}` and `{request}` are replaced by paths.
        timeout_s: of one call; after that the command and everything it started is killed.
        repeats: calls a network, at most: the rounds that it shares with the anchor.
        runs: timed runs that every call has to answer with.
    """

    command: tuple[str, ...]
    timeout_s: float = 600.0
    repeats: int = 5
    runs: int = 20

    def to_json(self) -> dict[str, Any]:
        return {
            "command": list(self.command),
            "timeout_s": self.timeout_s,
            "repeats": self.repeats,
            "runs": self.runs,
        }


def read_hook(raw: object, where: str) -> HookSettings:
    """Check the `hook` mapping of a device.yaml; raise `JobError` that names the key."""
    if not isinstance(raw, Mapping) or not raw.get("command"):
        raise JobError(
            "hook.command, your own command that times an ONNX file",
            received=f"only {sorted(raw)}" if isinstance(raw, Mapping) else repr(raw),
            where=where,
            cure='write hook: {command: [python3, my_hook.py, "{model}", "{out}"]}; see docs/devices.md',
        )
    for key in raw:
        check_name(str(key), _KEYS, "key", where=f"{where}: hook")
    numbers: dict[str, Any] = {
        "timeout_s": _number(raw.get("timeout_s", 600.0), "timeout_s", where, whole=False),
        "repeats": _number(raw.get("repeats", 5), "repeats", where, whole=True),
        "runs": _number(raw.get("runs", 20), "runs", where, whole=True),
    }
    if numbers["repeats"] < 3:
        raise JobError("at least 3 repeats: fewer make no interval", where=f"{where}: hook.repeats")
    return HookSettings(command=_words(raw["command"], where), **numbers)


def _words(command: object, where: str) -> tuple[str, ...]:
    try:
        words = shlex.split(command) if isinstance(command, str) else command
    except ValueError as error:
        raise JobError("a command whose quotes close", received=str(error), where=f"{where}: hook.command") from error
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise JobError(
            "a list of words, or one string",
            received=repr(command),
            where=f"{where}: hook.command",
            cure="quote numbers, so that YAML keeps them as words",
        )
    for name in (name for word in words for name in _WORD.findall(word)):
        if name not in PLACEHOLDERS:
            raise JobError(
                "a known placeholder",
                received=f"{{{name}}}",
                where=f"{where}: hook.command",
                cure=nearest(name, PLACEHOLDERS),
            )
    return tuple(words)


def _number(value: object, key: str, where: str, *, whole: bool) -> float:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0 or value == float("inf"):
        kind = "a whole number" if whole else "a number"
        raise JobError(f"{kind} above zero", received=repr(value), where=f"{where}: hook.{key}")
    return value
