"""The explanations that the rooms write beside the fields of their settings, read from the source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise


def field_docs(owner: type) -> dict[str, str]:
    """Field name -> the text under it (or the `#:` comment under or above it); fields without one are left out."""
    found: dict[str, str] = {}
    for part in reversed(owner.__mro__[:-1]):
        found |= _own_docs(part)
    return found


def _own_docs(owner: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(owner))
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    fields = [node for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    found = _comments(source.splitlines(), fields)
    for node, following in pairwise(body):
        if node in fields and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            found[node.target.id] = inspect.cleandoc(str(following.value.value))
    return found


def _comments(lines: list[str], fields: list[ast.AnnAssign]) -> dict[str, str]:
    """Comments that start with `#:`, given to the field above them, or below when the first one opens the class."""
    marked = {number for number, line in enumerate(lines, start=1) if line.strip().startswith("#:")}
    if not marked or not fields:
        return {}
    step = -1 if min(marked) < fields[0].lineno else 1
    found = {}
    for node in fields:
        number = node.lineno - 1 if step < 0 else (node.end_lineno or node.lineno) + 1
        texts = []
        while number in marked:
            texts.append(lines[number - 1].strip()[2:].strip())
            number += step
        if texts:
            found[node.target.id] = " ".join(texts[::step])  # type: ignore[union-attr]
    return found
