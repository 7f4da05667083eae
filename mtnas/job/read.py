"""Read, check and write back a job."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mtnas.base.budget import Budget, Floor
from mtnas.base.errors import JobError
from mtnas.base.files import write_text
from mtnas.job.check import check, settled
from mtnas.job.convert import convert
from mtnas.job.narrow import narrowed
from mtnas.job.overrides import apply, parse_override
from mtnas.job.schema import Job
from mtnas.job.schema_json import json_schema as json_schema
from mtnas.job.text import Dumper, parse_text, read_text

DEFAULT = Path(__file__).with_name("default.yaml")
TEMPLATE = Path(__file__).with_name("template.yaml")
PATHS = (("data", "root"), ("out",), ("references", "cache"), ("train", "start"))
NAMES_OR_PATHS = (("space", "rules"), ("device", "device"))


def read_job(path: Path | None, overrides: Sequence[str] = (), tasks: Sequence[str] | None = None) -> Job:
    """The checked job of a file, or the embedded default; for some of its tasks alone where they are given.

    Paths in the file are relative to the file; paths in overrides are relative to where the command is typed.
    """
    file = DEFAULT if path is None else Path(path)
    source = "default job" if path is None else file.name
    raw = parse_text(read_text(file), source)
    if path is not None:
        raw.setdefault("name", file.stem)
    raw = _anchored(_spread(raw), file.absolute().parent if path is not None else Path.cwd())
    for text in overrides:
        keys, value = parse_override(text)
        raw = _spread(apply(raw, keys, _absolute(tuple(keys), value, Path.cwd())))
    if raw.get("tasks") == []:
        cure = "name targets of the data set, or remove the key: then every target is a task"
        raise JobError("at least one task", received="none", where=f"{source}: tasks", cure=cure)
    job = settled(convert(raw, source))
    check(job, source)
    return job if tasks is None else narrowed(job, tasks, "--tasks")


def template_text() -> str:
    """What `mtnas init` writes: every setting that people change, with a comment."""
    return read_text(TEMPLATE)


def write_template(path: Path) -> None:
    """Write the template; an existing file is never overwritten."""
    if path.exists():
        raise JobError("a file that does not exist yet", received="a file", where=str(path), cure="choose another name")
    write_text(path, template_text())


def resolved_yaml(job: Job) -> str:
    """The complete job; reading it back gives an equal job, and the same text again."""
    text = yaml.dump(plain(job), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return f"# Complete job as it ran. Reading it again gives the same job.\n{text}"


def plain(value: Any) -> Any:
    """Settings as YAML has them: mappings, lists, numbers, text."""
    if isinstance(value, Budget):
        return {limit.name: _bound(limit.amount, limit.percent) for limit in value.limits}
    if isinstance(value, Floor):
        return _bound(value.amount, value.percent)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _bound(amount: float, percent: bool) -> float | str:
    return f"{amount!r}%".replace(".0%", "%") if percent else amount


def _spread(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Write short forms out: `tasks: [depth]` is `tasks: [{name: depth}]`, `device: x` is `device: {device: x}`."""
    spread = dict(raw)
    if isinstance(tasks := raw.get("tasks"), list):
        spread["tasks"] = [{"name": task} if isinstance(task, str) else task for task in tasks]
    if isinstance(device := raw.get("device"), str):
        spread["device"] = {"device": device}
    return spread


def _anchored(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same settings with paths made absolute from the job's folder."""
    for keys in (*PATHS, *NAMES_OR_PATHS):
        value: Any = raw
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            raw = apply(raw, list(keys), _absolute(keys, value, folder))
    return raw


def _absolute(keys: tuple[str, ...], value: Any, folder: Path) -> Any:
    """A path made absolute; every other value as it is."""
    is_path = keys in PATHS or (keys in NAMES_OR_PATHS and _names_a_file(str(value)))
    filled = is_path and isinstance(value, str) and value  # an empty text is no path
    return os.path.normpath(folder / Path(value).expanduser()) if filled else value


def _names_a_file(text: str) -> bool:
    """What is shipped is named by a bare word; anything else is a path."""
    return "/" in text or os.sep in text or text.endswith((".yaml", ".yml")) or text.startswith((".", "~"))
