"""What is elastic, what is frozen and why, and how much could be gained: as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mtnas.base.blocks import Block
from mtnas.base.forks import Fork
from mtnas.base.groups import ChannelGroup, size_text
from mtnas.elastic.sizes import InputSizes
from mtnas.elastic.widths import channels_per_unit
from mtnas.space.space import Space

Sizes = tuple[nn.Module, ...]
Parts = tuple[Sequence[ChannelGroup], Sequence[Block], Sequence[Fork], InputSizes]


@dataclass(frozen=True)
class GroupRow:
    """One line of the table.

    Args:
        name: the group's name.
        channels: full width in channels.
        widths: options of its choice, in channels; empty when it has none.
        owners: tasks that the group reaches.
        frozen: why it may not shrink; empty when it may.
    """

    name: str
    channels: int
    widths: tuple[int, ...]
    owners: tuple[str, ...]
    frozen: str


@dataclass(frozen=True)
class Cost:
    """Exact counts; MACs are multiply-adds of convolutions and linear layers for one image."""

    params: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """The elastic model in numbers; `str()` is a table."""

    groups: tuple[GroupRow, ...]
    blocks: tuple[Block, ...]
    inputs: InputSizes
    tasks: tuple[str, ...]
    input_shape: tuple[int, ...]
    largest: Cost
    smallest: Cost
    log10_archs: float
    forks: tuple[Fork, ...] = ()

    @property
    def macs_factor(self) -> float:
        """How many times fewer MACs the smallest network has."""
        return self.largest.macs / max(1, self.smallest.macs)

    @property
    def params_factor(self) -> float:
        return self.largest.params / max(1, self.smallest.params)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "elastic/1",
            "tasks": list(self.tasks),
            "input_shape": list(self.input_shape),
            "groups": [
                {
                    "name": row.name,
                    "channels": row.channels,
                    "widths": list(row.widths),
                    "owners": list(row.owners),
                    "frozen": row.frozen,
                }
                for row in self.groups
            ],
            "blocks": [asdict(block) for block in self.blocks],
            **({"forks": [fork.to_json() for fork in self.forks]} if self.forks else {}),
            "input_sizes": size_rows(self.inputs),
            "largest": {"params": self.largest.params, "macs": self.largest.macs},
            "smallest": {"params": self.smallest.params, "macs": self.smallest.macs},
            "log10_archs": self.log10_archs,
        }

    def __str__(self) -> str:
        elastic = [row for row in self.groups if not row.frozen]
        frozen = [row for row in self.groups if row.frozen]
        lines = [f"{len(elastic)} elastic groups, {len(frozen)} frozen; 10^{self.log10_archs:.1f} networks"]
        lines += _table([("group", "channels", "widths", "owners"), *(self._cells(row) for row in elastic)])
        if frozen:
            lines += [
                "",
                *_table([("frozen", "channels", "why"), *((r.name, str(r.channels), r.frozen) for r in frozen)]),
            ]
        if self.blocks:
            lines += ["", *_table([("block", "tasks", "depth choice"), *(self._block_cells(b) for b in self.blocks)])]
        if self.forks:
            lines += ["", *_table([("fork", "tasks", "options"), *(self._fork_cells(fork) for fork in self.forks)])]
        if len(rows := size_rows(self.inputs)) > 1:
            cells = [(row["size"], "", f"refused: {row['refused']}" if row["refused"] else "") for row in rows]
            lines += ["", *_table([("input size", "", ""), *cells])]
        lines += ["", *_table([("", "parameters", "MACs"), *self._costs()])]
        return "\n".join(lines)

    def _cells(self, row: GroupRow) -> tuple[str, ...]:
        widths = " ".join(str(width) for width in row.widths) or "any (one step)"
        owners = f"all {len(self.tasks)}" if row.owners == self.tasks and len(self.tasks) > 1 else ", ".join(row.owners)
        return row.name, str(row.channels), widths, owners

    def _block_cells(self, block: Block) -> tuple[str, ...]:
        return block.name, str(len(block.owners)), block.stage or f"stays: {block.refused}"

    def _fork_cells(self, fork: Fork) -> tuple[str, ...]:
        options = [f"{option} ({macs:,} MACs)" for option, macs in zip(fork.options, fork.macs)]
        told = f"stays {fork.default}: {fork.refused}" if fork.refused else f"{fork.kind}: {', '.join(options)}"
        return fork.name, str(len(fork.owners)), told

    def _costs(self) -> Iterator[tuple[str, ...]]:
        yield "largest", f"{self.largest.params:,}", f"{self.largest.macs:,}"
        yield "smallest", f"{self.smallest.params:,}", f"{self.smallest.macs:,}"
        yield "at most", f"{self.params_factor:.1f} times fewer", f"{self.macs_factor:.1f} times fewer"


def size_rows(inputs: InputSizes) -> list[dict[str, str]]:
    """Every input size of a network, the full one last, and why it may not be taken; empty when it may."""
    refused = {size: "" for size in inputs.sizes} | dict(inputs.refused) | {inputs.full: ""}
    return [{"size": size_text(size), "refused": refused[size]} for size in sorted(refused, key=math.prod)]


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Fixed-width columns; the second one is a number and leans right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) if k == 1 else cell.ljust(width) for k, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return lines


class MacCounter:
    """Counts multiply-adds of one image while the network runs, by forward hooks."""

    def __init__(self) -> None:
        self.macs = 0

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        handles = [
            layer.register_forward_hook(self._count)
            for layer in network.modules()
            if isinstance(layer, _ConvNd | nn.Linear)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _count(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Every weight element is used once per output place (per input place when transposed)."""
        assert isinstance(layer, _ConvNd | nn.Linear)
        if isinstance(layer, _ConvNd):
            places = (inputs[0] if layer.transposed else output).shape[2:].numel()
        else:
            places = output[0].numel() // output.shape[-1]
        self.macs += layer.weight.numel() * places


def cost(network: nn.Module, example_BCHW: Tensor) -> Cost:
    """Parameters of a network and its MACs for one image."""
    counter = MacCounter()
    with torch.no_grad(), counter.watching(network):
        network(example_BCHW)
    return Cost(sum(parameter.numel() for parameter in network.parameters()), counter.macs)


def summarise(parts: Parts, space: Space, example_BCHW: Tensor, sizes: Sizes) -> Summary:
    """Build the summary.

    Args:
        parts: all groups, blocks, forks and input sizes, frozen and refused ones included.
        space: the widths, depths, options and input sizes.
        example_BCHW: an image batch.
        sizes: the largest and the smallest network, as plain modules.
    """
    rows, (groups, blocks, forks, inputs) = [], parts
    for group in groups:
        per_unit = channels_per_unit(group)
        choice = space.by_name.get(group.name)
        widths = tuple(int(option) * per_unit for option in choice.options) if choice else ()
        rows.append(GroupRow(group.name, group.size * per_unit, widths, group.owners, group.frozen))
    largest, smallest = (cost(network, example_BCHW) for network in sizes)
    with torch.no_grad():
        tasks = tuple(sizes[0](example_BCHW))
    shape = tuple(example_BCHW.shape)
    log10_archs = space.log10_size
    return Summary(tuple(rows), tuple(blocks), inputs, tasks, shape, largest, smallest, log10_archs, tuple(forks))
