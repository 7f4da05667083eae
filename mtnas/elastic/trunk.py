"""Where a network's shared part ends: the modules whose outputs the tasks' own parts read.

One forward pass is watched, and every operation of the gradient graph is marked with the tasks it reaches. Operations
that reach several tasks are shared; the *border* are those that an operation of fewer tasks reads. From the border
the graph is followed back to the nearest modules that run once: their outputs are what the network's shared part
hands over, whatever the modules are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.errors import ModelError
from mtnas.base.tables import nearest


def tensors_in(value: Any) -> list[Tensor]:
    """The float tensors of a module's output, through tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    return [tensor for part in value for tensor in tensors_in(part)] if isinstance(value, list | tuple) else []


def with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same output with every float tensor changed, in the order of `tensors_in`."""
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, dict):
        return type(value)((key, with_tensors(part, change)) for key, part in value.items())
    if isinstance(value, list | tuple):
        parts = [with_tensors(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


@contextmanager
def watching(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Inside, the outputs of these modules are collected by name, one entry for each call."""
    found: dict[str, list[Any]] = {name: [] for name in names}

    def collector(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: found[name].append(output)

    handles = [network.get_submodule(name).register_forward_hook(collector(name)) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def check_modules(network: nn.Module, names: Sequence[str], where: str) -> None:
    """Raise `ModelError` with the nearest name unless the network has all these modules."""
    known = [name for name, _ in network.named_modules() if name]
    for name in names:
        if name not in known:
            raise ModelError("modules of this model", received=repr(name), where=where, cure=nearest(name, known))


def find_trunk(network: nn.Module, example_BCHW: Tensor, owners: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Names of the outermost modules that hand the shared part over, in the order in which they end; maybe none.

    Args:
        network: its parameters require gradients.
        example_BCHW: the image batch to run.
        owners: tasks that each parameter reaches.
    """
    ends: dict[Any, list[str]] = {}
    calls: dict[str, int] = {}

    def recorder(name: str) -> Callable[..., None]:
        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            for tensor in tensors_in(output):
                if tensor.grad_fn is not None:
                    ends.setdefault(tensor.grad_fn, []).append(name)

        return record

    handles = [module.register_forward_hook(recorder(name)) for name, module in network.named_modules() if name]
    try:
        with torch.enable_grad():
            outputs = network(example_BCHW.detach().clone().requires_grad_(True).mul(1.0))
    finally:
        for handle in handles:
            handle.remove()
    usable = {name for name, count in calls.items() if count == 1 and _serves_several(name, owners)}
    chosen = {
        source: max(names, key=lambda name: -name.count("."))
        for source, found in ends.items()
        if (names := [name for name in found if name in usable])
    }
    reached = _walk_back(_border(outputs), chosen)
    return tuple(dict.fromkeys(name for source, name in chosen.items() if source in reached))


def _serves_several(name: str, owners: Mapping[str, Sequence[str]]) -> bool:
    """Whether no parameter of a module belongs to one task alone."""
    return all(len(tasks) != 1 for key, tasks in owners.items() if key.startswith(f"{name}."))


def _border(outputs: Mapping[str, Tensor]) -> list[Any]:
    """Operations that reach several tasks and that an operation of a single task reads, or that are an output."""
    tasks: dict[Any, set[str]] = {}
    for task, output in outputs.items():
        for source in _history(output.grad_fn):
            tasks.setdefault(source, set()).add(task)
    read = {before for source, found in tasks.items() if len(found) == 1 for before in _before(source)}
    read |= {output.grad_fn for output in outputs.values()}
    return [source for source in tasks if len(tasks[source]) > 1 and source in read]


def _walk_back(border: Sequence[Any], chosen: Mapping[Any, str]) -> set[Any]:
    """The nearest operations before the border, itself included, that end a chosen module."""
    found, seen, stack = set(), set(border), list(border)
    while stack:
        source = stack.pop()
        if source in chosen:
            found.add(source)
            continue
        fresh = [before for before in _before(source) if before not in seen]
        seen.update(fresh)
        stack.extend(fresh)
    return found


def _before(source: Any) -> list[Any]:
    return [before for before, _ in source.next_functions if before is not None]


def _history(source: Any) -> set[Any]:
    seen, stack = {source}, [source]
    while stack:
        fresh = [before for before in _before(stack.pop()) if before not in seen]
        seen.update(fresh)
        stack.extend(fresh)
    return seen
