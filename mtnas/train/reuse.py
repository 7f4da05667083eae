"""One pass through the shared part serves several decoders.

In the first pass every outermost module of the shared part hands over copies of its outputs that are cut from their
graph (leaves). Further passes get the same leaves without running these modules, so gradients of all passes add up on
them; at the end one backward pass goes through the modules, from the last to the first. Without random layers in the
shared part this equals separate passes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.blocks import inside
from mtnas.base.errors import ModelError
from mtnas.elastic.model import ElasticModel
from mtnas.elastic.trunk import tensors_in, watching, with_tensors


@dataclass
class Relay:
    """The shared part of one step's network, and what it handed over.

    Args:
        network: whose modules they are.
        modules: names of the outermost modules of its shared part, each of which runs once.
    """

    network: nn.Module
    modules: Sequence[str]
    outputs: dict[str, Any] = field(default_factory=dict)
    cuts: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list)

    @property
    def woven(self) -> bool:
        """Whether operations between the modules may be walked through more than once."""
        return len(self.modules) > 1

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Inside, the one pass that runs the shared part."""
        handles = [self.network.get_submodule(m).register_forward_hook(self._cutter(m)) for m in self.modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Inside, passes that get what the first one left."""
        stores = {name: self.network.get_submodule(name).__dict__ for name in self.modules}
        before = {name: store.get("forward") for name, store in stores.items()}
        try:
            for name, store in stores.items():
                store["forward"] = _answering(self.outputs[name])
            yield
        finally:
            for name, store in stores.items():
                if before[name] is None:
                    del store["forward"]
                else:
                    store["forward"] = before[name]

    def backward(self) -> None:
        """Send what has come together on the leaves through the shared part, once."""
        for pairs in reversed(self.cuts):
            reached = [(output, leaf.grad) for output, leaf in pairs if leaf.grad is not None]
            if reached:
                outputs, gradients = zip(*reached, strict=True)
                torch.autograd.backward(outputs, gradients, retain_graph=self.woven)
        self.cuts.clear()
        self.outputs.clear()

    def _cutter(self, name: str) -> Callable[..., Any]:
        def cut(module: nn.Module, inputs: Any, output: Any) -> Any:
            self.cuts.append([])
            self.outputs[name] = with_tensors(output, self._leaf)
            return self.outputs[name]

        return cut

    def _leaf(self, tensor: Tensor) -> Tensor:
        leaf = tensor.detach().requires_grad_(tensor.requires_grad)
        self.cuts[-1].append((tensor, leaf))
        return leaf


def _answering(output: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: output


def shared_modules(elastic: ElasticModel) -> tuple[str, ...]:
    """`outermost_shared` of a network in which they can be run apart from the rest.

    Raises `ModelError` when there are none, or what they return is changed in place later.
    """
    outermost = outermost_shared(elastic)
    if not outermost:
        raise ModelError(
            "a shared part that can serve several decoders",
            received="no module that runs once and serves several tasks alone",
            where="train.decoders_per_encoder",
            cure="set it to 1",
        )
    if changed := _changed_in_place(elastic, outermost):
        raise ModelError(
            "outputs of the shared part that nobody changes",
            received=f"what {changed} returns is changed in place",
            where="train.decoders_per_encoder",
            cure="use operations that are not in place behind it, or set decoders_per_encoder to 1",
        )
    return outermost


def outermost_shared(elastic: ElasticModel) -> tuple[str, ...]:
    """The outermost modules that serve several tasks and run once in a forward pass; maybe none."""
    network, owners = elastic.model, elastic.parameter_owners
    names = [name for name, _ in network.named_modules() if name]
    with watching(network, names) as found, torch.no_grad():
        network(elastic.example.to(next(network.parameters()).device))
    serving = [name for name in names if len(found[name]) == 1 and _shared(name, owners)]
    return tuple(name for name in serving if not any(o != name and inside(name, [o]) for o in serving))


def _shared(name: str, owners: Mapping[str, Sequence[str]]) -> bool:
    """Whether a module has parameters, and none of them belongs to one task alone."""
    own = [tasks for key, tasks in owners.items() if inside(key, [name])]
    return bool(own) and all(len(tasks) > 1 for tasks in own if tasks)


def _changed_in_place(elastic: ElasticModel, modules: Sequence[str]) -> str:
    """The first module whose output does not stay as it was handed over."""
    network = copy.deepcopy(elastic.model)
    kept: list[tuple[str, Tensor, int]] = []

    def keeper(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: kept.extend((name, t, t._version) for t in tensors_in(output))

    for name in modules:
        network.get_submodule(name).register_forward_hook(keeper(name))
    with torch.no_grad():
        network(elastic.example)
    return next((name for name, tensor, version in kept if tensor._version != version), "")
