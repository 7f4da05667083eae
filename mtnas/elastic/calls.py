"""Which modules run on what: one forward pass watched from outside, and how each output comes from its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: Operations of torch's gradient graph that pass a tensor on element by element, without weights.
_PASSING = frozenset(
    f"{name}Backward0"
    for name in (
        *("Alias", "Celu", "Clamp", "ClampMax", "ClampMin", "Clone", "Elu", "Gelu", "Hardswish", "Hardtanh"),
        *("LeakyRelu", "Mish", "PreluKernel", "Relu", "Silu", "Softplus"),
    )
)
_ADDITION = "AddBackward0"


@dataclass(frozen=True)
class Call:
    """One call of a module with one tensor.

    Args:
        input, output: the tensors; `input` is as it came, its gradient history as it was then.
        input_source, output_source: the operations that made them.
        changes_input: whether the input was written to meanwhile.
        has_weights: whether the module holds parameters.
    """

    input: Tensor
    output: Tensor
    input_source: Any
    output_source: Any
    changes_input: bool
    has_weights: bool

    @property
    def same_shape(self) -> bool:
        return self.input.shape == self.output.shape and self.input.dtype == self.output.dtype


def watch_calls(network: nn.Module, example_BCHW: Tensor) -> tuple[dict[str, list[Call]], dict[str, Tensor]]:
    """Every call of every module that takes and gives exactly one tensor, in the order in which they end.

    Also the network's outputs. A module that is ever called otherwise is left out.

    Args:
        network: its parameters require gradients.
        example_BCHW: the image batch to run.
    """
    calls: dict[str, list[Call]] = {}
    otherwise: set[str] = set()
    handles = []
    for name, module in network.named_modules():
        if name:
            watcher = _Watcher(name, module, calls, otherwise)
            handles.append(module.register_forward_pre_hook(watcher.before, with_kwargs=True))
            handles.append(module.register_forward_hook(watcher.after, with_kwargs=True))
    try:
        with torch.enable_grad():
            outputs = network(example_BCHW.detach().clone().requires_grad_(True).mul(1.0))
    finally:
        for handle in handles:
            handle.remove()
    return {name: found for name, found in calls.items() if name not in otherwise}, dict(outputs)


@dataclass
class _Watcher:
    """The hooks of one module."""

    name: str
    module: nn.Module
    calls: dict[str, list[Call]]
    otherwise: set[str]

    def __post_init__(self) -> None:
        self.pending: list[tuple[Any, int]] = []
        self.has_weights = any(True for _ in self.module.parameters())

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            self.pending.append((args[0].grad_fn, args[0]._version))
        else:
            self.otherwise.add(self.name)
            self.pending.append((None, 0))

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        source, version = self.pending.pop()
        if self.name in self.otherwise or not isinstance(output, Tensor):
            self.otherwise.add(self.name)
            return
        x = args[0]
        call = Call(x, output, source, output.grad_fn, x._version != version, self.has_weights)
        self.calls.setdefault(self.name, []).append(call)


def adds_to_its_input(call: Call) -> bool:
    """Whether the input reaches the output through additions (one at least) and activations alone."""
    if not (call.same_shape and call.has_weights) or call.input_source is None:
        return False
    return _reaches(call.output_source, lambda source: source is call.input_source)


def _reaches(start: Any, is_end: Callable[[Any], bool]) -> bool:
    stack, seen = [(start, False)], set()
    while stack:
        source, added = stack.pop()
        if source is None or (source, added) in seen:
            continue
        seen.add((source, added))
        if is_end(source):
            if added:
                return True
            continue
        if source.name() == _ADDITION or source.name() in _PASSING:
            stack += [(before, added or source.name() == _ADDITION) for before, _ in source.next_functions]
    return False
