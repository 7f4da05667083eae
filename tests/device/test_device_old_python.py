"""Every file of the device room runs on Python 3.8 with the standard library, numpy and a runtime.

No old interpreter is needed for this: grammar is checked by the parser, the rest by reading the syntax tree for what
3.8 does not have.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mtnas.device

FILES = sorted(Path(mtnas.device.__path__[0]).glob("*.py"))
PACKAGES = {"numpy", "onnx", "onnxruntime", "openvino", "torch", "tensorrt"}
NEW_MODULES = {"graphlib", "zoneinfo", "tomllib"}
GENERIC = {"list", "dict", "tuple", "set", "frozenset", "type", "deque", "defaultdict", "Callable", "Iterator"}
GENERIC |= {"Iterable", "Mapping", "Sequence", "Generator", "MutableMapping", "Awaitable", "OrderedDict", "Counter"}
NEW_NAMES = {"removeprefix", "removesuffix", "lcm", "nextafter", "ulp", "pairwise", "batched", "anext", "aiter"}
NEW_NAMES |= {"to_thread", "TaskGroup", "ExceptionGroup", "StrEnum", "hardlink_to", "is_relative_to", "with_stem"}
NEW_NAMES |= {"readlink", "file_digest", "cache", "UTC", "bit_count", "waitstatus_to_exitcode", "randbytes"}
NEW_KEYWORDS = {"zip": {"strict"}, "dataclass": {"kw_only", "slots"}, "Popen": {"umask", "process_group", "user"}}
NEW_KEYWORDS |= {"write_text": {"newline"}, "TemporaryDirectory": {"ignore_cleanup_errors"}, "unpack_from": set()}


def trees() -> list[tuple[str, ast.Module]]:
    return [(path.name, ast.parse(path.read_text(encoding="utf-8"))) for path in FILES]


def evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run: annotations stay text, thanks to the future import."""
    skipped = {"annotation", "returns"}
    for name, value in ast.iter_fields(node):
        if name in skipped:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from evaluated(child)


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def test_there_are_files_to_check() -> None:
    assert {"__main__.py", "main.py", "job.py", "timing.py"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_grammar_is_that_of_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_new_generics_stay_in_annotations() -> None:
    wrong = []
    for name, tree in trees():
        typing = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "typing"
            for alias in node.names
        }
        names = [node for node in evaluated(tree) if isinstance(node, ast.Subscript)]
        found = [(node.lineno, node.value.id) for node in names if isinstance(node.value, ast.Name)]
        wrong += [f"{name}:{line} {word}[...]" for line, word in found if word in GENERIC - typing]
    assert not wrong, "\n".join(wrong)


def test_annotations_are_never_evaluated() -> None:
    wrong = [
        name
        for name, tree in trees()
        if any(isinstance(n, (ast.AnnAssign, ast.FunctionDef)) for n in ast.walk(tree))
        and not any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body)
    ]
    decorated = [
        f"{name}:{node.lineno}"
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node) in {"get_type_hints", "NamedTuple", "TypedDict"}
    ]
    assert not wrong + decorated


def test_no_name_or_keyword_that_came_later() -> None:
    wrong = []
    for name, tree in trees():
        for node in evaluated(tree):
            if isinstance(node, ast.Attribute) and node.attr in NEW_NAMES:
                wrong.append(f"{name}:{node.lineno} {node.attr}")
            if isinstance(node, ast.ImportFrom):
                wrong += [f"{name}:{node.lineno} {a.name}" for a in node.names if a.name in NEW_NAMES]
            if isinstance(node, ast.Call):
                new = {k.arg for k in node.keywords} & NEW_KEYWORDS.get(called(node), set())
                wrong += [f"{name}:{node.lineno} {called(node)}({word}=)" for word in new]
                if called(node) == "isinstance" and any(isinstance(arg, ast.BinOp) for arg in node.args):
                    wrong.append(f"{name}:{node.lineno} isinstance with |")
    assert not wrong, "\n".join(wrong)


def test_dictionaries_are_not_merged_with_a_bar() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name, tree in trees()
        for node in evaluated(tree)
        if isinstance(node, (ast.BinOp, ast.AugAssign))
        and isinstance(node.op, ast.BitOr)
        and any(isinstance(side, (ast.Dict, ast.DictComp)) for side in ast.walk(node))
    ]
    assert not wrong


def test_needs_nothing_but_the_standard_library_numpy_and_a_runtime() -> None:
    wrong = []
    for name, tree in trees():
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            roots = {module.partition(".")[0] for module in modules}
            if roots - (set(sys.stdlib_module_names) - NEW_MODULES) - PACKAGES or "mtnas" in roots:
                wrong.append(f"{name}:{node.lineno} {sorted(roots)}")
    assert not wrong, "\n".join(wrong)


def test_the_runner_starts_without_any_runtime() -> None:
    by_name, waiting, seen = dict(trees()), ["main.py"], set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        body = by_name[name].body
        near = {f"{node.module}.py" for node in body if isinstance(node, ast.ImportFrom) and node.level == 1}
        waiting += sorted((near & set(by_name)) - seen)
    top = {
        f"{name}: {alias.name}"
        for name in seen
        for node in by_name[name].body
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] in PACKAGES - {"numpy"}
    }
    assert len(seen) > 5 and not top
