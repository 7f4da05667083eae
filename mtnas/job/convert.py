"""From a plain mapping to a `Job`: pydantic checks types strictly, and its complaints become ours."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtnas.base.errors import JobError
from mtnas.base.tables import nearest
from mtnas.job.schema import Job

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "none_required": "nothing (null)",
    "dataclass_type": "a mapping of settings",
    "missing": "a value",
}
#: settings that stand elsewhere in a job than in the room that owns them
MOVED = {"prune.finetune.": "finetune.", "measure.": "device."}
UNKNOWN_KEY = "unexpected_keyword_argument"


def convert(raw: Mapping[str, Any], source: str) -> Job:
    """The checked job; raises `JobError` naming the file, the key, what was expected and what came."""
    from pydantic import TypeAdapter, ValidationError  # half a second that other verbs need not wait for

    try:
        text = json.dumps(raw)
    except (TypeError, ValueError) as error:
        raise JobError("plain YAML values with words as keys", received=str(error), where=source) from error
    try:
        return TypeAdapter(Job).validate_json(text, strict=True)
    except ValidationError as error:
        raise _job_error(error.errors(include_url=False), raw, source) from None
    except JobError as error:
        key = next((new + error.where[len(old) :] for old, new in MOVED.items() if error.where.startswith(old)), None)
        where = f"{source}: {key or error.where}" if error.where else source
        raise JobError(error.expected, received=error.received, where=where, cure=error.cure) from None


def _job_error(errors: Sequence[ErrorDetails], raw: Mapping[str, Any], source: str) -> JobError:
    """One message for the first wrong key, with the others named after it."""
    by_path: dict[str, list[ErrorDetails]] = {}
    for detail in sorted(errors, key=lambda e: e["type"] != UNKNOWN_KEY):
        by_path.setdefault(dotted(_known_part(detail["loc"], raw)), []).append(detail)
    path, details = next(iter(by_path.items()))
    detail = details[0]
    if detail["type"] == UNKNOWN_KEY:
        expected, received = "a known key", repr(detail["loc"][-1])
        cure = nearest_key([str(part) for part in detail["loc"]])
    else:
        expected = " or ".join(dict.fromkeys(_expected(d) for d in details))
        received, cure = json.dumps(detail["input"]), ""
    others = [other for other in by_path if other != path]
    if others:
        cure = "; ".join(part for part in (cure, f"also wrong: {', '.join(others)}") if part)
    return JobError(expected, received=received, where=f"{source}: {path}", cure=cure)


def _expected(detail: ErrorDetails) -> str:
    if detail["type"] == "literal_error":
        return f"one of {detail['ctx']['expected']}"
    return EXPECTED.get(detail["type"], detail["msg"])


def _known_part(location: Sequence[str | int], raw: Any) -> list[str | int]:
    """The part of an error's location that exists in the file: pydantic adds names of union members."""
    known: list[str | int] = []
    for part in location:
        inside_list = isinstance(raw, list) and isinstance(part, int) and part < len(raw)
        if not inside_list and not (isinstance(raw, Mapping) and part in raw):
            break
        raw = raw[part]
        known.append(part)
    return known


def dotted(location: Sequence[str | int]) -> str:
    """`("tasks", 0, "weight")` -> `tasks[0].weight`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


# --- the tree of keys ---------------------------------------------------------------------------------------------


def fields_of(owner: Any) -> dict[str, Any]:
    """Names and types of a settings class, looked for inside `X | None` and `tuple[X, ...]`; empty for other types."""
    if dataclasses.is_dataclass(owner) and isinstance(owner, type):
        hints = typing.get_type_hints(owner)
        return {field.name: hints[field.name] for field in dataclasses.fields(owner) if field.init}
    if isinstance(owner, types.UnionType) or typing.get_origin(owner) in {tuple, list, typing.Union}:
        for argument in typing.get_args(owner):
            if found := fields_of(argument):
                return found
    return {}


def all_keys() -> list[str]:
    """Every dotted key of a job."""

    def walk(owner: Any, prefix: str) -> list[str]:
        keys = []
        for name, kind in fields_of(owner).items():
            keys += [prefix + name, *walk(kind, f"{prefix}{name}.")]
        return keys

    return walk(Job, "")


def nearest_key(path: Sequence[str]) -> str:
    """A sentence naming the key that was probably meant: the same word elsewhere, else one beside it."""
    owner: Any = Job
    for part in path[:-1]:
        owner = owner if part.isdigit() else fields_of(owner).get(part, owner)
    names = list(fields_of(owner)) or all_keys()
    elsewhere = [key for key in all_keys() if key.rpartition(".")[2] == path[-1]]
    return f"did you mean {elsewhere[0]!r}?" if elsewhere else nearest(path[-1], names)
