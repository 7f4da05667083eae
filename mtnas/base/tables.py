"""Literal tables `name -> "module:attribute"`, resolved on first use."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from mtnas.base.errors import JobError


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known name, or the list of all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose one of: {', '.join(names)}"


def check_name(name: str, table: Mapping[str, object], what: str, where: str = "") -> None:
    """Raise `JobError` with the nearest name when `name` is not a row of `table`."""
    if name not in table:
        raise JobError(f"a known {what}", received=repr(name), where=where, cure=nearest(name, table))


def picked(asked: Iterable[str], known: Iterable[str], what: str, where: str) -> tuple[str, ...]:
    """The asked tasks in the known order; raises `JobError` for one that is not `what`, and for none."""
    wanted, names = list(asked), tuple(known)
    for name in wanted:
        if name not in names:
            raise JobError(what, received=repr(name), where=where, cure=nearest(name, names))
    if not wanted:
        raise JobError("at least one task", received="none", where=where, cure=f"choose from {', '.join(names)}")
    return tuple(name for name in names if name in wanted)


def lookup(name: str, table: Mapping[str, str], what: str, where: str = "") -> Any:
    """The object behind a row; imports its module only now."""
    check_name(name, table, what, where)
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
