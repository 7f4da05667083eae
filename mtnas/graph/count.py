"""Exact costs of any selection, by arithmetic on axis lengths: no model is cut.

Conventions: one image; a multiply-add counts once; convolutions, linear layers and matrix products count, all else
is free. `params` are learned parameters of the network in torch (batch-norm scale and shift included). `size_mb` is
what the cut file stores (batch-norm folded, constants included; 1 MB = 1e6 bytes). `activation_peak_mb` is the largest
sum of tensors alive at once when the cut file's nodes run in order; an activation whose input dies runs in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from mtnas.base.groups import Selection
from mtnas.graph.branches import branch_order, tensor_branches
from mtnas.graph.labels import Labelled
from mtnas.graph.operators import IN_PLACE, VIEWS
from mtnas.graph.plan import Plan
from mtnas.graph.rows import RowTable, Terms, width_vector
from mtnas.graph.work import list_work

BYTES = 4


@dataclass(frozen=True)
class BranchCounts:
    """Costs of the shared part, or of one task's own part."""

    macs: int
    params: int


@dataclass(frozen=True)
class Counts:
    """Costs of one network; the branches add up to the whole."""

    macs: int
    params: int
    size_mb: float
    activation_peak_mb: float
    branches: Mapping[str, BranchCounts]

    def branches_json(self) -> dict[str, dict[str, int]]:
        return {name: {"macs": part.macs, "params": part.params} for name, part in self.branches.items()}

    def to_json(self) -> dict[str, Any]:
        return {
            "macs": self.macs,
            "params": self.params,
            "size_mb": self.size_mb,
            "activation_peak_mb": self.activation_peak_mb,
            "branches": self.branches_json(),
        }


@dataclass(frozen=True)
class Counter:
    """Everything `counts` needs, as arrays. S = steps (nodes in order), T = tensors."""

    plan: Plan
    matrix_RG: np.ndarray
    macs: Terms
    macs_branch: np.ndarray
    params: Terms
    params_branch: np.ndarray
    stored: Terms
    constant_bytes: int
    tensors: Terms
    alive_ST: np.ndarray
    branches: tuple[str, ...]

    def counts(self, selection: Selection) -> Counts:
        lengths_R = self.matrix_RG @ width_vector(self.plan.units, selection)
        macs, params = self.macs.values(lengths_R), self.params.values(lengths_R)
        parts = {
            name: BranchCounts(int(macs[self.macs_branch == i].sum()), int(params[self.params_branch == i].sum()))
            for i, name in enumerate(self.branches)
        }
        stored = int(self.stored.values(lengths_R).sum()) + self.constant_bytes
        peak = int((self.alive_ST @ self.tensors.values(lengths_R)).max(initial=0))
        return Counts(int(macs.sum()), int(params.sum()), stored / 1e6, peak / 1e6, MappingProxyType(parts))


def make_counter(plan: Plan, parameters: Sequence[str]) -> Counter:
    rows = RowTable(plan.units)
    graph = plan.folded.skeleton.graph
    branches = branch_order(graph)
    # Branches are read off the whole graph: weights that are reshaped or folded later are still there.
    home = tensor_branches(plan.network.skeleton.graph)
    work = [item for item in list_work(graph, plan.folded.labels, rows) if item.output in home]
    learned = [name for name in parameters if name in plan.weights and name in home]
    stored = [_bytes(rows, plan.folded.labels[name], plan.weights.get(name)) for name in plan.folded.reads]
    constants = sum(len(onnx.numpy_helper.to_array(tensor).tobytes()) for tensor in graph.initializer)
    names, alive = liveness(graph, set(plan.folded.reads))
    tensors = [_bytes(rows, plan.folded.labels[name], None) for name in names]
    return Counter(
        plan,
        macs=Terms.of([([item.out, item.into, item.more], item.factor) for item in work]),
        macs_branch=np.array([branches.index(home[item.output]) for item in work], dtype=np.int64),
        params=Terms.of([rows.product(plan.labels[name]) for name in learned]),
        params_branch=np.array([branches.index(home[name]) for name in learned], dtype=np.int64),
        stored=Terms.of(stored),
        constant_bytes=constants,
        tensors=Terms.of(tensors),
        alive_ST=alive,
        branches=branches,
        matrix_RG=rows.matrix_RG,
    )


def _bytes(rows: RowTable, tensor: Labelled, like: np.ndarray | None) -> tuple[list[int], int]:
    lengths, factor = rows.product(tensor)
    return lengths, factor * (BYTES if like is None else like.dtype.itemsize)


def liveness(graph: onnx.GraphProto, weights: set[str]) -> tuple[list[str], np.ndarray]:
    """Names of all activations, and which are alive while each node runs: after it is made, until its last reader."""
    still = weights | {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input] + [n for node in graph.node for n in node.output if n]
    index = {name: number for number, name in enumerate(names) if name not in still}
    alive = np.zeros((len(graph.node), len(names)), dtype=np.int64)
    last = {output.name: len(graph.node) - 1 for output in graph.output}
    root = _view_roots(graph)
    for step, node in enumerate(graph.node):
        for name in node.input:
            if name in index:
                owner = root.get(name, name)
                last[owner] = max(last.get(owner, 0), step)
    made = {name: step for step, node in enumerate(graph.node) for name in node.output}
    for name, number in index.items():
        if name not in root:
            alive[made.get(name, 0) : max(last.get(name, 0), made.get(name, 0)) + 1, number] = 1
    for step, node in enumerate(graph.node):
        source = root.get(node.input[0], node.input[0]) if node.input else ""
        if node.op_type in IN_PLACE and source in made and last.get(source) == step:
            alive[step, index[source]] = 0
    return names, alive


def _view_roots(graph: onnx.GraphProto) -> dict[str, str]:
    """Tensors that are only another view of an earlier one -> that one; outputs own their memory."""
    outputs = {output.name for output in graph.output}
    root: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in VIEWS and node.output[0] not in outputs:
            root[node.output[0]] = root.get(node.input[0], node.input[0])
    return root
