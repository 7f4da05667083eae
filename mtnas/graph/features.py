"""What a latency predictor reads: a few hundred physical amounts of work, all >= 0, each near-linear in time.

Runtimes compute channels in blocks (16 with AVX-512, 8 with AVX2 and ARM, 4 as the finest step), so multiply-adds
are given with channels rounded up to those steps, beside the exact ones. Work is summed over classes of equal kind
and place (`conv3x3@16x16`), since a kernel's speed depends on both, over branches, and in all.

Names: `const`, `total/..`, `branch/<name>/..`, `class/<kind>@<height>x<width>/..`, `move/<kind>@<place>/bytes16`,
`layer/<name>/macs16`. A fused activation costs nothing of its own; other nodes are counted by the bytes they move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from mtnas.base.groups import Selection
from mtnas.graph.branches import tensor_branches
from mtnas.graph.count import BYTES
from mtnas.graph.labels import Labelled
from mtnas.graph.operators import FUSED, TRAFFIC, VIEWS
from mtnas.graph.plan import Plan
from mtnas.graph.rows import RowTable, Terms, width_vector
from mtnas.graph.work import list_work

STEPS = (1, 4, 8, 16)
#: With more layers than this, single layers are left out of the features.
MOST_LAYERS = 120


def round_up(lengths: np.ndarray, step: int) -> np.ndarray:
    return -(-lengths // step) * step


@dataclass(frozen=True)
class FeatureTable:
    """Arrays behind `features`. N = layers that multiply, M = amounts of bytes, F = features."""

    plan: Plan
    matrix_RG: np.ndarray
    out_N: np.ndarray
    into_N: np.ndarray
    rest: Terms
    depthwise_N: np.ndarray
    bytes_M: Terms
    weight_bytes: Terms
    sums_FX: np.ndarray
    names: tuple[str, ...]

    def values(self, selection: Selection) -> np.ndarray:
        lengths = self.matrix_RG @ width_vector(self.plan.units, selection)
        out, into, rest = lengths[self.out_N], lengths[self.into_N], self.rest.values(lengths)
        parts = [np.ones(1)]
        for step in STEPS:
            # Fewer input channels than one block run unblocked, as the first convolution on RGB does.
            narrow = self.depthwise_N | (into < step)
            parts.append(round_up(out, step) * np.where(narrow, into, round_up(into, step)) * rest)
        blocked = np.where(self.matrix_RG[:, 1:].any(axis=1), round_up(lengths, 16), lengths)
        parts += [self.bytes_M.values(blocked), self.weight_bytes.values(lengths).sum(keepdims=True)]
        return self.sums_FX @ np.concatenate(parts).astype(np.float64)


class _Sums:
    """Collects features as rows of a 0/1 matrix over the amounts, in order of first use."""

    def __init__(self) -> None:
        self.columns: dict[str, list[int]] = {}

    def add(self, name: str, column: int) -> None:
        self.columns.setdefault(name, []).append(column)

    def matrix(self, width: int) -> np.ndarray:
        sums = np.zeros((len(self.columns), width))
        for row, columns in enumerate(self.columns.values()):
            np.add.at(sums[row], columns, 1.0)
        return sums


def make_features(plan: Plan) -> FeatureTable:
    graph, labels = plan.folded.skeleton.graph, plan.folded.labels
    rows = RowTable(plan.units)
    home = tensor_branches(plan.network.skeleton.graph)
    work = list_work(graph, labels, rows)
    moved = list(_moved(graph, labels, set(plan.folded.reads)))
    count = len(work)
    sums = _Sums()
    sums.add("const", 0)
    for number, item in enumerate(work):
        at = {step: 1 + place * count + number for place, step in enumerate(STEPS)}
        for step in STEPS:
            sums.add(f"total/macs{step if step > 1 else ''}", at[step])
        sums.add(f"branch/{home[item.output]}/macs16", at[16])
        sums.add(f"class/{item.kind}@{item.place}/macs", at[1])
        sums.add(f"class/{item.kind}@{item.place}/macs16", at[16])
        if count <= MOST_LAYERS:
            sums.add(f"layer/{item.layer}/macs16", at[16])
    kinds = {item.node: f"class/{item.kind}@{item.place}" for item in work}
    start = 1 + len(STEPS) * count
    for number, (node, _, name) in enumerate(moved):
        sums.add("total/bytes16", start + number)
        sums.add(f"branch/{home[node.output[0]]}/bytes16", start + number)
        sums.add(f"{kinds.get(node.name) or f'move/{name}'}/bytes16", start + number)
    sums.add("total/weight_bytes", start + len(moved))
    stored = [rows.product(labels[name]) for name in plan.folded.reads]
    return FeatureTable(
        plan,
        out_N=np.array([item.out for item in work], dtype=np.int64),
        into_N=np.array([item.into for item in work], dtype=np.int64),
        rest=Terms.of([([item.more], item.factor) for item in work]),
        depthwise_N=np.array([item.kind.startswith("depthwise") for item in work], dtype=bool),
        bytes_M=Terms.of([_scaled(rows.product(tensor)) for _, tensor, _ in moved]),
        weight_bytes=Terms.of([_scaled(term) for term in stored]),
        sums_FX=sums.matrix(start + len(moved) + 1),
        names=tuple(sums.columns),
        matrix_RG=rows.matrix_RG,
    )


def _scaled(term: tuple[list[int], int]) -> tuple[list[int], int]:
    return term[0], term[1] * BYTES


def _moved(
    graph: onnx.GraphProto, labels: Mapping[str, Labelled], weights: set[str]
) -> list[tuple[onnx.NodeProto, Labelled, str]]:
    """Every tensor a node reads or writes, with the node and a name of its kind and place; views and fused are free."""
    still = weights | {tensor.name for tensor in graph.initializer}
    makers = {name: node.op_type for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        fused = node.op_type in FUSED and makers.get(node.input[0]) in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        if fused or node.op_type in VIEWS:
            continue
        kind = next((kind for kind, names in TRAFFIC.items() if node.op_type in names), "elementwise")
        place = "x".join(map(str, labels[node.output[0]].shape[2:])) or "1"
        names = [name for name in node.input if name and name not in still] + [n for n in node.output if n]
        found += [(node, labels[name], f"{kind}@{place}") for name in names]
    return found
