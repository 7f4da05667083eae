"""What a latency predictor reads: a few hundred physical amounts of work, all >= 0, each near-linear in time.

Runtimes compute channels in blocks, and how large a block is differs from device to device and from precision to
precision, so multiply-adds are given with channels rounded up to several steps, beside the exact ones; the predictor
learns which step fits. Work is summed over fused blocks of equal kind and place (`conv3x3+add@/4`: a convolution with
the sum that runs inside it, at a quarter of the image's size), since a kernel's speed depends on both, over branches,
layers, and in all. Places are relative to the image, so that networks of several input sizes share their features.

Names: `const`, `total/..`, `branch/<name>/..`, `class/<kind>@<place>/..`, `move/<kind>@<place>/..`,
`layer/<name>/macs16`, and in networks with 8-bit parts the same with `.int8` behind total, branch, kind and layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtnas.base.groups import Selection
from mtnas.graph.branches import tensor_branches
from mtnas.graph.features_subject import Move, Subject, layer_name, list_moves, place_of, whole_kind
from mtnas.graph.labels import Labelled, Units
from mtnas.graph.operators import TRAFFIC
from mtnas.graph.plan import Plan
from mtnas.graph.rows import ONE, RowTable, Terms, width_vector
from mtnas.graph.work import Work, list_work

#: Channels are rounded up to these; 1 leaves them as they are.
STEPS = (1, 4, 8, 16, 32)
BYTE_STEPS = (1, 16)


def round_up(lengths: np.ndarray, step: int) -> np.ndarray:
    return -(-lengths // step) * step


@dataclass(frozen=True)
class FeatureTable:
    """Arrays behind `features`. N = layers that multiply, M = amounts of bytes, F = features.

    `out_N` and `into_N` are rows of channel counts, `rest` all else of the multiply-adds; `channels_M` and `bytes_M`
    the same of tensors that are read or written.
    """

    units: Units
    matrix_RG: np.ndarray
    out_N: np.ndarray
    into_N: np.ndarray
    rest: Terms
    depthwise_N: np.ndarray
    channels_M: np.ndarray
    bytes_M: Terms
    weight_bytes: Terms
    sums_FX: np.ndarray
    names: tuple[str, ...]

    def values(self, selection: Selection) -> np.ndarray:
        lengths = self.matrix_RG @ width_vector(self.units, selection)
        out, into, rest = lengths[self.out_N], lengths[self.into_N], self.rest.values(lengths)
        parts = [np.ones(1)]
        for step in STEPS:
            # Fewer input channels than one block run unblocked, as the first convolution on RGB does.
            narrow = self.depthwise_N | (into < step)
            parts.append(round_up(out, step) * np.where(narrow, into, round_up(into, step)) * rest)
        channels, size = lengths[self.channels_M], self.bytes_M.values(lengths)
        for step in BYTE_STEPS:
            parts.append(np.where(channels < step, channels, round_up(channels, step)) * size)
        parts.append(self.weight_bytes.values(lengths).sum(keepdims=True))
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
    """The table of an elastic graph: any selection's features by arithmetic, no model is cut."""
    home = tensor_branches(plan.network.skeleton.graph)
    graph = plan.folded.skeleton.graph
    stored = frozenset(plan.folded.reads) | {tensor.name for tensor in graph.initializer}
    return make_table(Subject(tuple(graph.node), graph.input[0].name, plan.folded.labels, home, stored, plan.units))


def make_table(subject: Subject) -> FeatureTable:
    """The table of any graph whose tensors are labelled."""
    rows = RowTable(subject.units)
    work = list_work(subject.graph, subject.labels, rows)
    moves = list_moves(subject, {item.node: whole_kind(subject, item) for item in work})
    sums, count = _Sums(), len(work)
    sums.add("const", 0)
    for number, item in enumerate(work):
        for name, step in _work_names(subject, item):
            sums.add(name, 1 + STEPS.index(step) * count + number)
    start = 1 + len(STEPS) * count
    for number, move in enumerate(moves):
        for name, step in _move_names(subject, move):
            sums.add(name, start + BYTE_STEPS.index(step) * len(moves) + number)
    end = start + len(BYTE_STEPS) * len(moves)
    sums.add("total/weight_bytes", end)
    amounts = [_amount(rows, move.tensor, move.bytes_each) for move in moves]
    weights = [rows.product(subject.labels[name]) for name in subject.weights]
    return FeatureTable(
        subject.units,
        out_N=np.array([item.out for item in work], dtype=np.int64),
        into_N=np.array([item.into for item in work], dtype=np.int64),
        rest=Terms.of([([item.more], item.factor) for item in work]),
        depthwise_N=np.array([item.kind.startswith("depthwise") for item in work], dtype=bool),
        channels_M=np.array([channels for channels, _, _ in amounts], dtype=np.int64),
        bytes_M=Terms.of([(rest, factor) for _, rest, factor in amounts]),
        weight_bytes=Terms.of([(lengths, 4 * factor) for lengths, factor in weights]),
        sums_FX=sums.matrix(end + 1),
        names=tuple(sums.columns),
        matrix_RG=rows.matrix_RG,
    )


def in_order(found: Mapping[str, float], names: Sequence[str]) -> np.ndarray:
    """Features in the order of these names, 0 where nothing is found.

    What fuses depends on the neighbours, so that a network may have a kind that no name is for. No work is lost then:
    it counts for the same kind without the sum inside, or with it; traffic for other traffic at the same place.
    """
    places = {name: number for number, name in enumerate(names)}
    values_F = np.zeros(len(names))
    for name, value in found.items():
        at = next((places[other] for other in (name, *_stand_ins(name)) if other in places), None)
        if at is not None:
            values_F[at] += value
    return values_F


def _stand_ins(name: str) -> Iterator[str]:
    kind, at, rest = name.partition("@")
    if not at:
        return
    yield kind.removesuffix("+add") + at + rest if kind.endswith("+add") else f"{kind}+add{at}{rest}"
    if kind.startswith("move/"):
        yield from (f"move/{other}{at}{rest}" for other in ("elementwise", "add", *TRAFFIC))


def _work_names(subject: Subject, item: Work) -> Iterator[tuple[str, int]]:
    """Features that one multiplying node counts for, with the step of each."""
    tag = subject.tag(item.node)
    kind = f"class/{whole_kind(subject, item)}{tag}@{place_of(subject, item.output)}"
    for step in STEPS:
        name = f"macs{step}" if step > 1 else "macs"
        yield f"total{tag}/{name}", step
        yield f"{kind}/{name}", step
    yield f"branch/{subject.home[item.output]}{tag}/macs16", 16
    yield f"layer/{layer_name(item)}{tag}/macs16", 16


def _move_names(subject: Subject, move: Move) -> Iterator[tuple[str, int]]:
    tag = subject.tag(move.node)
    yield f"total{tag}/bytes16", 16
    yield f"branch/{subject.home[move.output]}{tag}/bytes16", 16
    yield f"{move.name}/bytes", 1
    yield f"{move.name}/bytes16", 16


def _amount(rows: RowTable, tensor: Labelled, bytes_each: int) -> tuple[int, Sequence[int], int]:
    """A tensor's bytes as row of its channels, rows of its other lengths, and a factor."""
    lengths, factor = rows.product(tensor)
    if len(tensor.shape) < 2:
        return ONE, lengths, bytes_each * factor
    channels = rows.axis(tensor, 1)
    if 1 not in tensor.axes:
        return channels, lengths, bytes_each * factor // max(1, tensor.shape[1])
    rest = list(lengths)
    rest.remove(channels)
    return channels, rest, bytes_each * factor
