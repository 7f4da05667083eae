"""Parts of a network as networks of their own: some of the tasks, the shared part alone, one decoder alone.

Nodes and weights that the wanted outputs do not need are left out, the others are copied as they are, in float and
in int8 files. So a subset computes exactly what the whole network computes for its tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from mtnas.base.errors import ModelError
from mtnas.base.tables import picked
from mtnas.graph.branches import SHARED, branch_name, reachable_outputs

Value = onnx.ValueInfoProto


def keep_outputs(model: onnx.ModelProto, tasks: Iterable[str]) -> onnx.ModelProto:
    """The network that answers these tasks only, in the whole network's order; the model given is left alone.

    Raises `JobError` for a task that the model does not have, and for no task at all.
    """
    wanted = wanted_outputs(tasks, [output.name for output in model.graph.output])
    outputs = [output for output in model.graph.output if output.name in wanted]
    return between(model, list(model.graph.input), outputs)


def wanted_outputs(tasks: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """The wanted ones in the known order; raises `JobError` as `keep_outputs` does."""
    return picked(tasks, known, "a task of the model", "tasks")


def shared_alone(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """What several tasks share, as a network whose outputs are the tensors that cross into the branches.

    None when no two tasks share anything that depends on the input. A tensor that is itself one task's output and
    is read by another task stays an output.
    """
    crossing = crossing_tensors(model)
    return between(model, list(model.graph.input), _typed(model, crossing)) if crossing else None


def decoder_alone(model: onnx.ModelProto, task: str) -> onnx.ModelProto:
    """One task's own part, as a network that starts from the tensors that cross into it (or from the image)."""
    whole = keep_outputs(model, [task])
    needed = {name for node in whole.graph.node for name in _reads(node)}
    starts = _typed(model, [name for name in crossing_tensors(model) if name in needed and name != task])
    return between(model, [*starts, *model.graph.input], list(whole.graph.output))


def crossing_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """Tensors that a shared node makes and a branch reads (or that leave the network), in the order they are made."""
    graph = model.graph
    reached = reachable_outputs(graph)
    homes = {name: branch_name(tasks) for name, tasks in reached.items() if tasks}
    from_image = _depends_on(graph, {value.name for value in graph.input})
    leaving = {output.name for output in graph.output}
    for node in graph.node:
        if _home(node, homes) != SHARED:
            leaving.update(_reads(node))
    made = [name for node in graph.node for name in node.output if name in from_image]
    return tuple(name for name in made if homes.get(name) == SHARED and name in leaving)


def between(model: onnx.ModelProto, inputs: Sequence[Value], outputs: Sequence[Value]) -> onnx.ModelProto:
    """The nodes on the way from these tensors to those, with the weights they read; unused inputs are left out."""
    starts = {value.name for value in inputs}
    needed = {value.name for value in outputs}
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if any(name in needed and name not in starts for name in node.output):
            kept.append(node)
            needed.update(_reads(node))
    part = onnx.ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    for field in ("node", "input", "output", "initializer", "sparse_initializer", "value_info"):
        graph.ClearField(field)  # type: ignore[arg-type]
    graph.node.extend(reversed(kept))
    graph.input.extend(value for value in inputs if value.name in needed)
    graph.output.extend(outputs)
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    return part


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those of its inner graphs included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names.update(name for child in inner.node for name in _reads(child))
            names.update(output.name for output in inner.output)
    return names


def _home(node: onnx.NodeProto, homes: dict[str, str]) -> str:
    """Branch of a node; outputs that nobody reads do not count."""
    found = {homes[name] for name in node.output if name in homes}
    return SHARED if len(found) > 1 else next(iter(found), SHARED)


def _depends_on(graph: onnx.GraphProto, starts: set[str]) -> set[str]:
    """Every tensor that these tensors reach."""
    found = set(starts)
    for node in graph.node:
        if found & _reads(node):
            found.update(name for name in node.output if name)
    return found


def _typed(model: onnx.ModelProto, names: Sequence[str]) -> list[Value]:
    """Types and shapes of inner tensors, from onnx's own shape inference."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    known = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
    missing = [name for name in names if name not in known]
    if missing:
        raise ModelError("a network whose shapes can be inferred", received=f"no shape for {missing[:3]}")
    return [known[name] for name in names]
