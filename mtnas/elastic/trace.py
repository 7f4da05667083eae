"""Follows channels through the network along torch-pruning's dependency graph.

The graph (Fang et al., DepGraph, CVPR 2023) links the layers of a traced network and knows how indices move through
concatenations, splits and flattenings. Every edge is walked channel by channel, and the channels it links are joined
in a `Partition`. The image passes an extra identity layer first, so that channels tied to the image are seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.dependency import index_mapping

from mtnas.base.errors import ModelError, said
from mtnas.elastic.attention import find_heads
from mtnas.elastic.layers import BOTH, IN, OUT, Port, axes, block_ties, ports
from mtnas.elastic.partition import Partition

IMAGE = "<image>"
_PREFIX = "network."


class _Traced(nn.Module):
    """The network behind an identity layer for the image."""

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.add_module(IMAGE, nn.Conv2d(channels, channels, 1))
        self.network = network

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.network(self.get_submodule(IMAGE)(image))


@dataclass(frozen=True)
class Trace:
    """What tracing found.

    Args:
        partition: atoms are (`Port`, channel), (tensor key, position) and (operation, channel).
        sizes: channels of every traced port.
        outputs: operations or ports whose result is a task's output.
        fixed: operations or ports whose channels must stay, and why.
        parameters: axis that follows the channels, for loose parameters by name.
    """

    partition: Partition
    sizes: dict[Port, int]
    outputs: dict[Hashable, str]
    fixed: dict[Hashable, str]
    parameters: dict[str, int]


def trace(network: nn.Module, example_inputs: Tensor) -> Trace:
    """Trace a network that nobody else uses (its parameters are made to require gradients)."""
    wrapped = _Traced(network, example_inputs.shape[1]).to(example_inputs.device)
    wrapped.requires_grad_(True)
    _forbid_in_place(wrapped)
    outputs: dict[str, Tensor] = {}

    def remember(found: dict[str, Tensor]) -> list[Tensor]:
        outputs.update(found)
        return list(found.values())

    loose = _channel_axes_of_loose_parameters(wrapped)
    unwrapped = [tp._helpers.UnwrappedParameters(parameters=p, pruning_dim=axis) for p, axis in loose.values()]
    graph = tp.DependencyGraph()
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            # Without `forward_fn` the batch would be unpacked into several arguments first.
            graph.build_dependency(
                wrapped,
                example_inputs,
                forward_fn=lambda model, image: model(image),
                output_transform=remember,
                unwrapped_parameters=unwrapped,
                verbose=False,
            )
            _set_concat_sizes(graph)
    except Exception as error:
        raise ModelError(
            "a network whose layers can be traced by their gradients",
            received=said(error),
            where="make_elastic",
            cure="run the layers as modules in forward, without torch.no_grad(), scripting or compilation",
        ) from error
    return _Walk(graph, wrapped, outputs, {name: axis for name, (_, axis) in loose.items()}).result()


def _forbid_in_place(model: nn.Module) -> None:
    """An activation in place after a view rewrites the gradient's history, and the layer before it is not found."""
    for layer in model.modules():
        if getattr(layer, "inplace", False) is True:
            layer.__dict__["inplace"] = False


def _channel_axes_of_loose_parameters(model: nn.Module) -> dict[str, tuple[nn.Parameter, int]]:
    """Parameters outside known layers: the third axis from the end follows the channels of a map, else the last."""
    known = {id(p) for module in model.modules() if ports(module) for p in module._parameters.values() if p is not None}
    found: dict[str, tuple[nn.Parameter, int]] = {}
    for name, parameter in model.named_parameters():
        if id(parameter) in known or parameter.ndim == 0:
            continue
        axis = parameter.ndim - 3 if parameter.ndim >= 3 else parameter.ndim - 1
        found[name] = (parameter, axis)
    return found


def _set_concat_sizes(graph: Any) -> None:
    """Give concatenations the true sizes of their parts; torch-pruning guesses them from neighbouring layers."""
    for node in graph.module2node.values():
        if node.type != tp.ops.OPTYPE.CONCAT or any(n.type == tp.ops.OPTYPE.SPLIT for n in node.inputs):
            continue
        shapes = [_result_shape(n.grad_fn) for n in node.inputs]
        if all(shape is not None and len(shape) > 1 for shape in shapes):
            node.module.concat_sizes = [int(shape[1]) for shape in shapes if shape is not None]
    index_mapping.update_index_mapping(graph)


def _result_shape(grad_fn: Any) -> tuple[int, ...] | None:
    metadata = getattr(grad_fn, "_input_metadata", None)
    return tuple(metadata[0].shape) if metadata else None


class _Walk:
    """Visits every (node, side, channel) once and joins what the edges link."""

    def __init__(self, graph: Any, model: nn.Module, outputs: dict[str, Tensor], parameters: dict[str, int]) -> None:
        self.model = model
        self.partition = Partition()
        self.sizes: dict[Port, int] = {}
        self.seen: dict[Hashable, set[int]] = {}
        self.fixed: dict[Hashable, str] = {}
        grad_fns = {output.grad_fn: task for task, output in outputs.items()}
        self.tasks = {node: grad_fns[node.grad_fn] for node in graph.module2node.values() if node.grad_fn in grad_fns}
        self.ports = _ports_of_nodes(graph, model)
        self.heads = find_heads(graph.module2node.values(), self.ports)
        self.parameters = {name.removeprefix(_PREFIX): axis for name, axis in parameters.items()}

    def result(self) -> Trace:
        for node, own in self.ports.items():
            self.sizes |= {port: self._size(node, port) for port, _ in own}
        for node, own in self.ports.items():
            for port, function in own:
                for channel in range(self.sizes[port]):
                    self.partition.find((port, channel))
                if port.side != IN and self.sizes[port] > 1:
                    self._walk(node, function, range(self.sizes[port]))
        self._tie_inside_layers()
        self._tie_heads()
        self._tie_shared_tensors()
        return Trace(self.partition, self.sizes, self._outputs(), self.fixed, self.parameters)

    def _size(self, node: Any, port: Port) -> int:
        if isinstance(node.module, nn.Parameter):
            return node.module.shape[self.parameters[port.layer]]
        return ports(node.module)[port.side]

    def _key(self, node: Any, function: Callable[..., Any]) -> Hashable:
        """The port, or the operation itself, on which a pruning function acts."""
        for port, own in self.ports.get(node, ()):
            if own == function:
                return port
        return id(node)

    def _walk(self, node: Any, function: Callable[..., Any], channels: Iterable[int]) -> None:
        seen = self.seen.setdefault(self._key(node, function), set())
        stack = [(node, function, [channel for channel in channels if channel not in seen])]
        seen.update(channels)
        while stack:
            source, trigger, indices = stack.pop()
            if not indices:
                continue
            here = self._key(source, trigger)
            for edge in source.dependencies:
                if edge.is_triggered_by(trigger):
                    stack.append((edge.target, edge.handler, self._cross(edge, here, indices)))

    def _cross(self, edge: Any, here: Hashable, indices: list[int]) -> list[int]:
        """Join the channels along an edge; returns those that were never seen on the other side.

        A port of one channel is broadcast, not linked; neither is what meets the heads of attention from outside.
        """
        there = self._key(edge.target, edge.handler)
        size = self.sizes[there] if isinstance(there, Port) else None
        if size == 1:
            return []
        if not self.heads.links(edge.source, edge.target):
            self.fixed[there if edge.source in self.heads.inside else here] = "they span one head of attention"
            return []
        moved = [tp._helpers._HybridIndex(idx=i, root_idx=i) for i in indices]
        for mapping in edge.index_mapping:
            moved = mapping(moved) if mapping is not None else moved
        seen = self.seen.setdefault(there, set())
        fresh = []
        for index in moved:
            if index.idx < 0 or (size is not None and index.idx >= size):
                continue
            self.partition.union((here, index.root_idx), (there, index.idx))
            if index.idx not in seen:
                seen.add(index.idx)
                fresh.append(index.idx)
        return fresh

    def _tie_inside_layers(self) -> None:
        for name, layer in self.model.named_modules():
            own = name.removeprefix(_PREFIX)
            for (side_a, a), (side_b, b) in block_ties(layer):
                if Port(own, side_a) in self.sizes and Port(own, side_b) in self.sizes:
                    self.partition.union((Port(own, side_a), a), (Port(own, side_b), b))

    def _tie_heads(self) -> None:
        for name, layer in self.model.named_modules():
            port = Port(name.removeprefix(_PREFIX), OUT)
            first: dict[int, int] = {}
            for channel, head in enumerate(self.heads.units.get(layer, ())):
                self.partition.union((port, first.setdefault(head, channel)), (port, channel))

    def _tie_shared_tensors(self) -> None:
        """Layers that share a parameter share its positions."""
        for tensor, users in _shared_parameters(self.model).items():
            for name, layer, key in users:
                for side in ports(layer):
                    port = Port(name.removeprefix(_PREFIX), side)
                    for axis in axes(layer, side) if port in self.sizes else ():
                        for channel, position in enumerate(axis.positions_C.tolist()):
                            if axis.tensor == key:
                                self.partition.union(((tensor, axis.axis), position), (port, channel))

    def _outputs(self) -> dict[Hashable, str]:
        """Ports and operations that are a task's output, or (for single channels) that lead straight to one."""
        found: dict[Hashable, str] = {}
        for node, task in self.tasks.items():
            own: list[Hashable] = [port for port, _ in self.ports.get(node, ()) if port.side != IN]
            found |= dict.fromkeys(own or [id(node)], task)
        for node, ports_of_node in self.ports.items():
            for port, _ in ports_of_node:
                if port.side != IN and self.sizes[port] == 1 and (task := self._leads_to(node)):
                    found[port] = task
        return found

    def _leads_to(self, node: Any) -> str:
        """The task whose output is reached from a node without passing another layer."""
        stack, seen = [node], {node}
        while stack:
            here = stack.pop()
            if here in self.tasks:
                return self.tasks[here]
            after = [other for other in here.outputs if other not in seen and other not in self.ports]
            seen.update(after)
            stack.extend(after)
        return ""


def _ports_of_nodes(graph: Any, model: nn.Module) -> dict[Any, list[tuple[Port, Callable[..., Any]]]]:
    """For every traced layer, in the model's order: its ports and the pruning functions that stand for them."""
    names = {module: name for name, module in model.named_modules()}
    parameters = {id(parameter): name for name, parameter in model.named_parameters()}
    order = {module: place for place, module in enumerate(names)}
    nodes = [(module, node) for module, node in graph.module2node.items()]
    nodes.sort(key=lambda pair: order.get(pair[0], len(order)) if isinstance(pair[0], nn.Module) else len(order))
    found: dict[Any, list[tuple[Port, Callable[..., Any]]]] = {}
    for module, node in nodes:
        pruner = graph.get_pruner_of_module(module)
        if isinstance(module, nn.Parameter):
            name = parameters[id(module)].removeprefix(_PREFIX)
            found[node] = [(Port(name, BOTH), pruner.prune_out_channels)]
        elif module in names and ports(module):
            name = names[module].removeprefix(_PREFIX)
            functions = {IN: pruner.prune_in_channels, OUT: pruner.prune_out_channels}
            found[node] = [(Port(name, s), functions.get(s, pruner.prune_out_channels)) for s in ports(module)]
    return found


def _shared_parameters(model: nn.Module) -> dict[int, list[tuple[str, nn.Module, str]]]:
    """Parameters that several layers hold: (layer's name, layer, key) of each holder."""
    users: dict[int, list[tuple[str, nn.Module, str]]] = {}
    for name, layer in model.named_modules():
        for key, parameter in layer._parameters.items():
            if parameter is not None:
                users.setdefault(id(parameter), []).append((name, layer, key))
    return {tensor: holders for tensor, holders in users.items() if len(holders) > 1}
