"""Reading the file itself: YAML 1.2 scalars, JSON accepted, duplicated keys refused.

PyYAML follows YAML 1.1, where `1e-3` is a word and `12:30` a number; a job wants neither surprise.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from mtnas.base.errors import JobError


class _Loader(yaml.SafeLoader):
    """A safe loader with its own scalars; resolvers are set below, on this class only."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf)$|^\.(?:nan|NaN)$"),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        key = str(key_node.value)
        if key in seen:
            mark = key_node.start_mark
            raise _duplicate(key, f"{mark.name}:{mark.line + 1}")
        seen.add(key)
    loader.flatten_mapping(node)
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


class Dumper(yaml.SafeDumper):
    """Quotes every text that the loader above would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def _duplicate(key: str, where: str) -> JobError:
    return JobError("each key once", received=f"{key!r} twice", where=where, cure="remove one of them")


def parse_value(text: str) -> Any:
    """One YAML value, as it is written after `key=`."""
    return _parse(text, "override")


def parse_text(text: str, source: str) -> dict[str, Any]:
    """The mapping a file holds; raises `JobError` with the line of the first mistake."""
    value = _parse_json(text, source) if source.endswith(".json") else _parse(text, source)
    if not isinstance(value, dict):
        received = "an empty file" if value is None else type(value).__name__
        raise JobError("a mapping of settings", received=received, where=source, cure="`mtnas init` writes one")
    return value


def read_text(path: Path) -> str:
    """The file's text; raises `JobError` for what is missing, a folder, or not text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise JobError(
            "a job file that can be read", received=str(reason), where=str(path), cure="`mtnas init` writes one"
        ) from error


def _parse(text: str, source: str) -> Any:
    loader = _Loader(text)
    loader.name = source
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        received = getattr(error, "problem", None) or str(error)
        raise JobError("valid YAML", received=received, where=where) from error
    except (ValueError, TypeError) as error:  # an unhashable key, a number beyond reason
        raise JobError("valid YAML", received=str(error), where=source) from error
    finally:
        loader.dispose()  # type: ignore[no-untyped-call]


def _parse_json(text: str, source: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise _duplicate(key, source)
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise JobError("valid JSON", received=error.msg, where=f"{source}:{error.lineno}") from error
