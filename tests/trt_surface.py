"""A module with exactly the names of a real TensorRT binding, and nothing else.

Built from the API surface of one version (classes, signatures, enum members, read from the real bindings). A name,
argument, type or enum member that the binding lacks is refused as the binding refuses it; a name that exists but that
no behaviour was written for raises `Unwritten`, so that nothing is believed by accident.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

API = Path(__file__).parent / "tensorrt_api"
SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
#: inheritance the builder relies on; the surfaces do not state it
BASES = {"Logger": "ILogger"}
Behaviour = Callable[..., Any]


class Unwritten(NotImplementedError):
    """The real binding has it, the stand-in does not act it out."""


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str
    optional: bool


@dataclass(frozen=True)
class Signature:
    """One overload: `name(self: Owner, a: int, b: str = None) -> bool`."""

    parameters: tuple[Parameter, ...]

    @staticmethod
    def read(text: str) -> Signature | None:
        found = re.match(r"(?:\d+\. )?\w+\((?P<inside>.*)\) -> ", text)
        if not found:
            return None
        parts = [part for part in _split(found["inside"]) if not part.startswith("self:")]
        return Signature(tuple(_parameter(part) for part in parts))

    def bind(self, module: ModuleType, args: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any] | None:
        """Arguments by name, or None when this overload does not take them."""
        if len(args) > len(self.parameters):
            return None
        bound = {parameter.name: value for parameter, value in zip(self.parameters, args)}
        known = {parameter.name for parameter in self.parameters}
        if set(named) - known or set(named) & set(bound):
            return None
        bound.update(named)
        for parameter in self.parameters:
            if parameter.name not in bound and not parameter.optional:
                return None
            if parameter.name in bound and not accepts(parameter.kind, bound[parameter.name], module):
                return None
        return bound


def _split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        depth += letter in "[(<"
        depth -= letter in "])>"
        if letter == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    return [part for part in [*parts, text[start:].strip()] if part]


def _parameter(text: str) -> Parameter:
    name, _, rest = text.partition(":")
    kind, equals, _ = rest.partition(" = ")
    return Parameter(name.strip(), kind.strip(), bool(equals))


def accepts(kind: str, value: Any, module: ModuleType) -> bool:
    """Whether the binding converts this value to an argument of that type."""
    if kind in {"int", "typing.SupportsInt"}:
        return hasattr(value, "__index__") and not isinstance(value, enum.Enum)
    plain = {"bool": bool, "str": str, "tuple": tuple, "list": list}
    if kind in plain:
        return isinstance(value, plain[kind])
    if kind in {"buffer", "typing_extensions.Buffer"}:
        return isinstance(value, (bytes, bytearray, memoryview))
    name = kind.rpartition("::")[2]
    if name == "Dims" and isinstance(value, (tuple, list)):
        return all(isinstance(item, int) for item in value)
    target: Any = module
    for part in name.split("."):
        target = getattr(target, part, None)
    if not isinstance(target, type):
        raise Unwritten(f"arguments of type {kind}")
    return isinstance(value, target)


def _method(owner: str, name: str, texts: list[str], module: ModuleType, acts: Mapping[str, Behaviour]) -> Behaviour:
    overloads = [signature for signature in map(Signature.read, texts) if signature is not None]

    def method(self: Any, *args: Any, **named: Any) -> Any:
        for overload in overloads:
            bound = overload.bind(module, args, named)
            if bound is not None:
                break
        else:
            raise TypeError(f"{owner}.{name}(): incompatible function arguments {args} {named}; one of {texts}")
        if f"{owner}.{name}" not in acts:
            raise Unwritten(f"{owner}.{name}")
        return acts[f"{owner}.{name}"](self, **bound)

    method.__name__ = name
    return method


def _property(owner: str, name: str, settable: bool, acts: Mapping[str, Behaviour]) -> property:
    def read(self: Any) -> Any:
        if name in self.values:
            return self.values[name]
        if f"{owner}.{name}" not in acts:
            raise Unwritten(f"{owner}.{name}")
        return acts[f"{owner}.{name}"](self)

    def write(self: Any, value: Any) -> None:
        self.values[name] = value

    return property(read, write if settable else None)


class Surface:
    """Base of every class of the stand-in: no attribute beyond the real ones can be set."""

    values: dict[str, Any]
    strict = True

    def __setattr__(self, name: str, value: Any) -> None:
        real = getattr(type(self), name, None)
        if isinstance(real, property) or not type(self).__dict__.get("strict", False):
            object.__setattr__(self, name, value)
            return
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def made(kind: type, **values: Any) -> Any:
    """An object as the library itself hands out, constructor or not."""
    item = kind.__new__(kind)
    object.__setattr__(item, "values", values)
    return item


def _constructor(name: str, members: Mapping[str, Any], module: ModuleType, acts: Mapping[str, Behaviour]) -> Behaviour:
    texts = members.get("__init__")
    if not isinstance(texts, list):

        def refused(self: Any, *args: Any, **named: Any) -> None:
            raise TypeError(f"{name}: No constructor defined!")

        return refused
    check = _method(name, "__init__", texts, module, acts)

    def construct(self: Any, *args: Any, **named: Any) -> None:
        object.__setattr__(self, "values", {})
        check(self, *args, **named)

    return construct


def _nothing(self: Any, **named: Any) -> None:
    self.values.update(named)


def _class(name: str, members: Mapping[str, Any], module: ModuleType, acts: Mapping[str, Behaviour]) -> type:
    body: dict[str, Any] = {"strict": True, "__init__": _constructor(name, members, module, acts)}
    for member, what in members.items():
        if isinstance(what, list) and member != "__init__":
            body[member] = _method(name, member, what, module, acts)
        elif isinstance(what, str) and what.startswith("property"):
            body[member] = _property(name, member, "settable" in what, acts)
    base = getattr(module, BASES[name]) if name in BASES else Surface
    return type(name, (base,), body)


def surface(version: str, acts: dict[str, Behaviour]) -> ModuleType:
    """The stand-in for one version.

    Args:
        version: a file of `tensorrt_api`, such as `10.13`.
        acts: what methods (`"Builder.create_network"`), properties and constructors do; given the real object's
            `self` and the bound arguments by name.
    """
    api = json.loads((API / f"tensorrt-{version}.json").read_text())
    module = ModuleType("tensorrt")
    module.__dict__["__version__"] = api["version"]
    for name, members in api["enums"].items():
        setattr(module, name, _enum(name, members))
    for name, members in api["classes"].items():
        acts.setdefault(f"{name}.__init__", _nothing)
        setattr(module, name, _class(name, members, module, acts))
    severity = _enum("Severity", SEVERITIES)
    for name in ("ILogger", "Logger"):
        logger = getattr(module, name)
        for member in ("Severity", *SEVERITIES):
            if member in api["classes"][name]:
                setattr(logger, member, severity if member == "Severity" else severity[member])
    return module


def _enum(name: str, members: Any) -> Any:
    """Members convert to int, and are no ints, as in the bindings."""
    made_enum = enum.Enum(name, {member: index for index, member in enumerate(members)})  # type: ignore[misc]
    made_enum.__int__ = lambda self: self.value  # type: ignore[attr-defined]
    return made_enum
