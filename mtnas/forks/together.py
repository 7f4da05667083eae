"""What options and branches have in common: they take the same tensors and give the same shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.errors import ModelError, said
from mtnas.base.forks import each


def check_branches(kind: str, modules: Sequence[object]) -> None:
    """Raise `ModelError` unless there is at least one, and each is a module that occurs once."""
    if not modules or not all(isinstance(module, nn.Module) for module in modules):
        received = [type(module).__name__ for module in modules if not isinstance(module, nn.Module)]
        raise ModelError("at least one nn.Module", received=str(received or "none"), where=kind)
    if len({id(module) for module in modules}) < len(modules):
        raise ModelError("modules that differ", received="the same module twice", where=kind, cure="copy it")


def added(modules: Mapping[str, nn.Module], inputs: Sequence[Tensor]) -> Any:
    """The sum of what all modules give for the same inputs; raises `ModelError` naming the one that does not fit."""
    total: Any = None
    first = ""
    for name, module in modules.items():
        try:
            output = module(*inputs)
        except ModelError:
            raise
        except Exception as error:
            raise _odd(f"an option that takes {_shapes(inputs)}", said(error), name) from error
        if total is None:
            first, total = name, output
        found, expected = _named_shapes(output, name), _named_shapes(total, first)
        if found != expected:
            raise _odd(f"{_told(expected)}, as option {first!r} gives for {_shapes(inputs)}", f"{_told(found)}", name)
        total = output if name == first else each(torch.add, total, output)
    return total


def _named_shapes(output: Any, option: str) -> dict[str, tuple[int, ...]]:
    """Shapes of what an option gives: one tensor, or several by name."""
    named = output if isinstance(output, Mapping) and output else {"": output}
    for tensor in named.values():
        if not isinstance(tensor, Tensor):
            raise _odd("one tensor from every option, or a dict of tensors", type(tensor).__name__, option)
    return {name: tuple(tensor.shape) for name, tensor in named.items()}


def _told(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name + ' of ' if name else ''}shape {shape}" for name, shape in shapes.items())


def _shapes(inputs: Sequence[Tensor]) -> str:
    return " and ".join(str(tuple(tensor.shape)) for tensor in inputs)


def _odd(expected: str, received: str, name: str) -> ModelError:
    return ModelError(
        expected,
        received=received,
        where=f"option {name!r}",
        cure="give all options of a OneOf, all branches of a SumOf, the same input and output channels and stride",
    )
