"""Reading the package's own source: which files there are and what each one imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mtnas"
REFERENCE = re.compile(r"mtnas(\.\w+)+(:\w+)?")


@cache
def sources() -> tuple[Path, ...]:
    """Every Python file of the package; files that are being written (hidden, temporary) are left out."""
    return tuple(sorted(p for p in PACKAGE.rglob("*.py") if not p.name.startswith(".") and "_data" not in p.parts))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


@cache
def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sources()}


def room_of(module: str) -> str:
    """`mtnas.search.loop` -> `search`; the package itself -> ``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def rooms() -> set[str]:
    """Folders and single-file modules directly under the package."""
    return {room_of(name) for name in modules()} - {""}


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """The module an import-from names, with leading dots resolved."""
    if node.level == 0:
        return node.module or ""
    parts = module_name(path).split(".")
    keep = len(parts) - node.level + (1 if path.name == "__init__.py" else 0)
    return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def names_imported(node: ast.AST, path: Path) -> list[str]:
    """Dotted names one statement imports: `from a import b` gives `a.b`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = absolute(node, path)
        return [f"{base}.{alias.name}" for alias in node.names]
    return []


def lazy_names(node: ast.AST) -> list[str]:
    """Names handed to `require("x")` or `import_module("x")`."""
    if not isinstance(node, ast.Call) or not node.args:
        return []
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    first = node.args[0]
    if called in {"require", "import_module"} and isinstance(first, ast.Constant) and isinstance(first.value, str):
        return [first.value]
    return []


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported, blocks opened; `if TYPE_CHECKING` left out."""
    for statement in body:
        yield statement
        if is_type_checking(statement) or isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from top_level(getattr(statement, field, []))
        for handler in getattr(statement, "handlers", []):
            yield from top_level(handler.body)


@cache
def eager_imports(path: Path) -> frozenset[str]:
    """Everything that importing this file imports."""
    return frozenset(name for node in top_level(tree(path).body) for name in names_imported(node, path))


@cache
def all_imports(path: Path) -> frozenset[str]:
    """Everything this file imports anywhere, functions and `require` included."""
    return frozenset(name for node in nodes(path) for name in (*names_imported(node, path), *lazy_names(node)))


@cache
def references(path: Path) -> frozenset[str]:
    """Modules of ours that this file imports or names in a string such as `"mtnas.tasks.depth:Depth"`."""
    found = {name for name in all_imports(path) if name.split(".")[0] == "mtnas"}
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and REFERENCE.fullmatch(node.value):
            found.add(node.value.partition(":")[0])
    return frozenset(found)


def as_module(name: str) -> str | None:
    """The module of ours behind a dotted name: the longest prefix that is a file."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in modules():
            return ".".join(parts[:end])
    return None


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
