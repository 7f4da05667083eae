"""The job's JSON schema, for editors that complete and check YAML."""

from __future__ import annotations

import sys
from typing import Any

from mtnas.job.convert import fields_of
from mtnas.job.docs import field_docs
from mtnas.job.schema import Job


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a job file, with the fields' explanations as descriptions."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(Job).json_schema()
    owners = {"": Job, **_settings(Job)}
    for name, owner in owners.items():
        part = schema if name == "" else schema.get("$defs", {}).get(name)
        if part:
            _describe(part, owner)
    tasks = schema["properties"]["tasks"]
    tasks["items"] = {"anyOf": [{"type": "string"}, tasks["items"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "mtnas job"}


def _settings(owner: Any) -> dict[str, type]:
    """Every settings class below a class, by its name."""
    found: dict[str, type] = {}
    for kind in fields_of(owner).values():
        inner = _inner(kind)
        if inner is not None:
            found |= {inner.__name__: inner, **_settings(inner)}
    return found


def _inner(kind: Any) -> type | None:
    if isinstance(kind, type) and fields_of(kind):
        return kind
    return next((i for i in map(_inner, getattr(kind, "__args__", ())) if i is not None), None)


def _describe(part: dict[str, Any], owner: type) -> None:
    docs = field_docs(owner) if owner.__module__ in sys.modules else {}
    for name, entry in part.get("properties", {}).items():
        entry.pop("title", None)
        if name in docs:
            entry["description"] = docs[name]
