"""House rules a reader relies on: small files, literal tables that resolve, no prints, no pickles, no machine paths."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess

import pytest
from arch_walk import ROOT, all_imports, functions, label, module_name, modules, nodes, room_of, sources, tree

from mtnas.base.tables import lookup

FILE_LINES = 450
FUNCTION_LINES = 60
SEEDED = {"default_rng", "Generator", "SeedSequence", "PCG64", "BitGenerator", "Random"}


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_files_are_short() -> None:
    long = {label(p): n for p in sources() if (n := len(p.read_text(encoding="utf-8").splitlines())) > FILE_LINES}
    assert not long


def test_functions_are_short() -> None:
    long = [
        f"{label(path)}:{node.lineno} {node.name}"
        for path in sources()
        for node in functions(path)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_every_file_opens_with_a_docstring() -> None:
    assert [label(p) for p in sources() if not ast.get_docstring(tree(p))] == []


def test_room_init_files_are_a_docstring_only() -> None:
    inits = [p for p in sources() if p.name == "__init__.py" and room_of(module_name(p))]
    assert [label(p) for p in inits if len(tree(p).body) != 1] == []


def test_only_the_command_line_and_the_device_print() -> None:
    wrong = []
    for path in sources():
        if room_of(module_name(path)) in {"cli", "device"}:
            continue
        for node in nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{label(path)}:{node.lineno}")
    assert not wrong, "\n".join(wrong)


def test_no_pickles() -> None:
    """Only a user's own checkpoint is unpickled, and of that nothing but tensors."""
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
    allowed = {("mtnas/train/start.py", "pickle.UnpicklingError"), ("mtnas/train/start.py", "pickle")}
    wrong = [
        f"{label(p)} -> {n}"
        for p in sources()
        for n in all_imports(p)
        if n.split(".")[0] in banned and (label(p), n) not in allowed
    ]
    for path in sources():
        safe = {
            id(node.func)
            for node in nodes(path)
            if isinstance(node, ast.Call) and "weights_only=True" in map(ast.unparse, node.keywords)
        }
        for node in nodes(path):
            if (
                id(node) not in safe
                and isinstance(node, ast.Attribute)
                and ast.unparse(node) in {"torch.save", "torch.load"}
            ):
                wrong.append(f"{label(path)}:{node.lineno} {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


def test_no_global_random_state() -> None:
    wrong = []
    for path in sources():
        owners = {"np.random", "numpy.random"} | ({"random"} if "random" in all_imports(path) else set())
        for node in nodes(path):
            if not isinstance(node, ast.Attribute) or node.attr in SEEDED:
                continue
            if ast.unparse(node.value) in owners:
                wrong.append(f"{label(path)}:{node.lineno} {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


def test_no_mutable_defaults() -> None:
    wrong = []
    for path in sources():
        for node in functions(path):
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if isinstance(default, (ast.List, ast.Dict, ast.Set)):
                    wrong.append(f"{label(path)}:{node.lineno} {node.name}")
    assert not wrong, "\n".join(wrong)


def test_every_row_of_every_table_resolves() -> None:
    for name in sorted(n for n in modules() if n.rpartition(".")[2] == "table"):
        module = importlib.import_module(name)
        tables = {k: v for k, v in vars(module).items() if k.isupper() and isinstance(v, dict)}
        assert tables, f"{name} holds no table"
        for key, table in tables.items():
            for row, target in table.items():
                if isinstance(target, str) and re.fullmatch(r"[\w.]+:\w+", target):
                    assert lookup(row, table, "row", f"{name}.{key}") is not None


def test_no_tracked_file_names_a_place_on_one_machine() -> None:
    places = ["work", "root", "mnt", "Users", r"home/\w", "tmp/plan"]
    pattern = re.compile(r"(?<![\w.\-])/(?:" + "|".join(places) + r")/[\w.]|[A-Z]:\\\\?Users")
    wrong = []
    for name in tracked():
        data = (ROOT / name).read_bytes()
        if b"\0" in data[:4096]:
            continue
        for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), start=1):
            if pattern.search(line):
                wrong.append(f"{name}:{number}: {line.strip()[:120]}")
    assert not wrong, "\n".join(wrong)
