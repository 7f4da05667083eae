"""One call of the user's command: a request in, a checked answer out.

The request is JSON on standard input and in the file that `{request}` names:
`{"schema": "hook-request/1", "name", "model", "out", "runs", "threads", "precision", "runtime"}`. The answer is JSON on
standard output, or in the file that `{out}` names, and nothing else is believed:
`{"latency_ms": [every run], "memory_mb"?, "energy_mj"?, "runtime"?, "runtime_version"?, "device"?, "power_mode"?}`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtnas.base.errors import DeviceMissing
from mtnas.base.tables import nearest
from mtnas.measure.reach.hook_settings import HookSettings

_NUMBERS = ("memory_mb", "energy_mj")
_WORDS = ("runtime", "runtime_version", "device", "power_mode")
_KEYS = ("latency_ms", *_NUMBERS, *_WORDS)
_TAIL = 600  # characters of an output that a message shows


@dataclass(frozen=True)
class Answer:
    """What a command found out; None and empty words are what it did not say."""

    latency_ms: tuple[float, ...]
    memory_mb: float | None
    energy_mj: float | None
    words: Mapping[str, str]

    @property
    def circumstances(self) -> tuple[str, ...]:
        """Must be the same in all answers that are compared."""
        return tuple(self.words.get(key, "") for key in _WORDS)


def call_hook(settings: HookSettings, request: Mapping[str, Any], folder: Path, cwd: Path, where: str) -> Answer:
    """Run the command once; raise `DeviceMissing` when it fails or answers wrongly.

    Args:
        settings: the command.
        request: what is wanted; `model` and `out` are added to it here.
        folder: scratch folder that holds `model.onnx`.
        cwd: where the command runs.
        where: for messages.
    """
    paths = {"model": folder / "model.onnx", "out": folder / "answer.json", "request": folder / "request.json"}
    paths["out"].unlink(missing_ok=True)
    asked = {"schema": "hook-request/1", **request, "model": str(paths["model"]), "out": str(paths["out"])}
    text = json.dumps({**asked, "runs": settings.runs})
    paths["request"].write_text(text, encoding="utf-8")
    words = [_filled(word, paths) for word in settings.command]
    said = _run(words, text, settings.timeout_s, cwd, where)
    written = paths["out"].read_text(encoding="utf-8", errors="replace") if paths["out"].exists() else ""
    return read_answer(written or said, settings.runs, where)


def read_answer(text: str, runs: int, where: str) -> Answer:
    """Check an answer's text; raise `DeviceMissing` that says what is wrong with it."""
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise _wrong(
            "one JSON object",
            _shown(text) or "nothing",
            where,
            "print the answer alone on standard output (logs go to standard error), or write it to {out}",
        ) from error
    if not isinstance(raw, dict):
        raise _wrong("a JSON object", type(raw).__name__, where)
    for key in raw:
        if key not in _KEYS:
            raise _wrong(f"keys among {', '.join(_KEYS)}", repr(key), where, nearest(key, _KEYS))
    if "latency_ms" not in raw:
        raise _wrong("latency_ms: every timed run, in milliseconds", f"only {sorted(raw)}", where)
    for key in _WORDS:
        if not isinstance(raw.get(key, ""), str):
            raise _wrong(f"{key} as text", repr(raw[key]), where)
    return Answer(
        latency_ms=_latency(raw["latency_ms"], runs, where),
        memory_mb=_number(raw, "memory_mb", where),
        energy_mj=_number(raw, "energy_mj", where),
        words={key: raw[key] for key in _WORDS if raw.get(key)},
    )


def _latency(value: object, runs: int, where: str) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise _wrong("latency_ms: a list with every timed run", _shown(repr(value)), where)
    for place, run_ms in enumerate(value):
        if not _positive(run_ms):
            raise _wrong("latencies above zero, in milliseconds", f"{run_ms!r} at place {place}", where)
    if len(value) != runs:
        raise _wrong(
            f"{runs} runs, as the request says", f"{len(value)}", where, "time as many, or set hook.runs to what comes"
        )
    return tuple(float(run_ms) for run_ms in value)


def _number(raw: Mapping[str, Any], key: str, where: str) -> float | None:
    if raw.get(key) is None:
        return None
    if not _positive(raw[key]):
        raise _wrong(f"{key} above zero", repr(raw[key]), where, "leave the key out when there is nothing to tell")
    return float(raw[key])


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _run(words: list[str], text: str, timeout_s: float, cwd: Path, where: str) -> str:
    """Standard output of the command; all that it started dies with it when it takes too long or we are stopped."""
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, stderr=pipe, cwd=cwd, text=True, errors="replace", start_new_session=True
        )
    except OSError as error:
        cure = f"install it, or correct hook.command; it runs in {cwd}"
        raise _wrong(f"the command {words[0]!r}", error.strerror or str(error), where, cure) from error
    try:
        said, complained = process.communicate(text, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        _kill(process)
        raise _wrong(
            f"an answer within {timeout_s:g} s", "none; the command was ended", where, "raise hook.timeout_s"
        ) from error
    except BaseException:
        _kill(process)
        raise
    if process.returncode != 0:
        how = f"exit status {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        tail = _shown(complained) or _shown(said) or "no word on standard error"
        raise _wrong("a command that ends with status 0", f"{how}: {tail}", where, "run the command by hand")
    return said


def _kill(process: subprocess.Popen[str]) -> None:
    """End the command's whole process group, and do not wait for pipes that others hold."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _filled(word: str, paths: Mapping[str, Path]) -> str:
    for name, path in paths.items():
        word = word.replace(f"{{{name}}}", str(path))
    return word


def _shown(text: str) -> str:
    """The end of an output, on one line."""
    return " ".join(text.split())[-_TAIL:]


def _wrong(expected: str, received: str, where: str, cure: str = "see docs/devices.md, reach: hook") -> DeviceMissing:
    return DeviceMissing(expected, received=received, where=where, cure=cure)
