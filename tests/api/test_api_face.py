"""The package as a user sees it: names, signatures, documentation, and packages that are functions too."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types

import pytest

import mtnas

FUNCTIONS = sorted(set(mtnas.__all__) - {"__version__", "Control", "DeviceProfile", "OneOf", "SumOf"})
VERBS = ["train", "measure", "search", "prune", "quantize", "export", "verify"]


def test_every_public_name_is_there() -> None:
    for name in mtnas.__all__:
        assert hasattr(mtnas, name) and name in dir(mtnas)
    with pytest.raises(AttributeError, match="'mtnas' has no attribute 'serach'"):
        mtnas.serach  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("room_first", [True, False])
def test_a_verb_is_a_package_and_a_function_in_any_order(name: str, room_first: bool) -> None:
    """In a fresh process each: the import system sets the package's attribute whenever it likes."""
    module = f"mtnas.{name}.config"
    lines = [f"import {module} as room", f"f = mtnas.{name}"] if room_first else [f"f = mtnas.{name}"]
    code = "\n".join(
        [
            "import mtnas, inspect, types, sys",
            *lines,
            f"import {module} as room",
            f"from mtnas import {name} as again",
            f"assert f is again is mtnas.{name} is sys.modules['mtnas.{name}']",
            f"assert room is sys.modules['{module}'] and isinstance(f, types.ModuleType) and callable(f)",
            f"assert room is f.config and f.__name__ == 'mtnas.{name}'",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_has_its_functions_signature(name: str) -> None:
    verb = getattr(mtnas, name)
    assert isinstance(verb, types.ModuleType)
    assert inspect.signature(verb) == inspect.signature(function(name))


def function(name: str) -> types.FunctionType:
    found = getattr(mtnas, name)
    if isinstance(found, types.ModuleType):
        import importlib

        module, _, attribute = mtnas._VERBS[name].partition(":")  # type: ignore[attr-defined]
        found = getattr(importlib.import_module(module), attribute)
    assert isinstance(found, types.FunctionType)
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_takes_and_raises(name: str) -> None:
    found = function(name)
    text = inspect.getdoc(found) or ""
    if name == "load_profile":
        assert "refuses" in text
        return
    assert "Args:" in text and "Raises:" in text
    missing = [p for p in inspect.signature(found).parameters if f"{p}:" not in text and f" {p}," not in text]
    missing = [p for p in missing if f", {p}:" not in text]
    assert not missing


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_has_a_type(name: str) -> None:
    signature = inspect.signature(function(name))
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    assert signature.return_annotation is not inspect.Signature.empty
