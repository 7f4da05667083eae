"""Settings typed on the command line: `train.epochs=3`, `tasks=[depth, edges]`, `budget.latency_ms=40%`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtnas.base.errors import JobError
from mtnas.job.convert import fields_of, nearest_key
from mtnas.job.schema import Job
from mtnas.job.text import parse_value

OPEN = ("budget", "floors", "preference")


def parse_override(text: str) -> tuple[list[str], Any]:
    """`"train.epochs=3"` -> `(["train", "epochs"], 3)`; raises `JobError` for a key that no job has."""
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise JobError("key=value", received=repr(text), where="override", cure="write train.epochs=3")
    _check(path, text)
    return path, parse_value(value)


def apply(raw: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of the mapping with one value replaced; numbers in the path count list entries from 0."""
    return dict(_replaced(raw, path, value, ".".join(path)))


def _check(path: list[str], text: str) -> None:
    owner: Any = Job
    for depth, part in enumerate(path):
        if part.isdigit() and depth:
            continue
        known = fields_of(owner)
        if part not in known:
            cure = nearest_key(path[: depth + 1])
            raise JobError("a known key", received=repr(part), where=f"override {text!r}", cure=cure)
        if part in OPEN and depth == 0:
            return
        owner = known[part]


def _replaced(raw: Any, path: list[str], value: Any, key: str) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(raw, list):
        if not head.isdigit() or int(head) >= len(raw):
            raise JobError(f"an entry from 0 to {len(raw) - 1}", received=repr(head), where=f"override {key}")
        return [_replaced(entry, rest, value, key) if n == int(head) else entry for n, entry in enumerate(raw)]
    inner = raw if isinstance(raw, Mapping) else {}
    return {**inner, head: _replaced(inner.get(head, {}), rest, value, key)}
