"""What the parts of a network can save: the shared part, each task's own, and all of these together.

Choices that save next to nothing still cost training: the supernet learns networks that differ in them, and each then
learns less (docs/supernets.md, CIFAR-100). `plan` says so before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from mtnas.base.groups import Selection
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice
from mtnas.space.space import Space

if TYPE_CHECKING:
    from mtnas.elastic.model import ElasticModel
    from mtnas.graph.elastic_graph import ElasticGraph

SHARED, OWN, WHOLE = "shared part", "decoders together", "whole network"
#: what decoders save together at most is not worth their choices below this share of the limited cost
WORTH = 0.05
#: which count stands for a limit; what lasts or burns follows the multiply-adds before anything is measured
_COUNT_OF = {"size_mb": "params", "params": "params"}

Shares = dict[str, float]


def savings(elastic: ElasticModel, graph: ElasticGraph) -> dict[str, Shares]:
    """Shares of the full network's `macs` and `params` that each part saves at its smallest, the others whole.

    Returns:
        Rows by part: the shared part, the decoders together, each decoder by its task; of a network of one task the
        whole. A part without a choice has no row.
    """
    full, found = graph.counts(Selection.of({})), {}
    for name, choices in _parts(elastic.space, elastic.tasks).items():
        if choices:
            least = {choice.name: choice.options[0] for choice in choices}
            arch = Arch.of({**elastic.space.largest.as_dict, **least})
            counts = graph.counts(elastic.selection(arch))
            found[name] = {"macs": 1.0 - counts.macs / full.macs, "params": 1.0 - counts.params / full.params}
    return found


def _parts(space: Space, tasks: Sequence[str]) -> dict[str, list[Choice]]:
    """The choices of each part."""
    if len(tasks) == 1:
        return {WHOLE: list(space.choices)}
    own = [choice for choice in space.choices if len(choice.owners) == 1]
    shared = [choice for choice in space.choices if len(choice.owners) != 1]
    return {SHARED: shared, OWN: own, **{task: [c for c in own if c.owners == (task,)] for task in tasks}}


def told(found: Mapping[str, Mapping[str, float]]) -> str:
    """The rows of several tasks or all for people, and whose decoder saves most."""
    rows = {name: row for name, row in found.items() if name in (SHARED, OWN, WHOLE)}
    parts = [f"{name} {row['macs']:.1%} ({row['params']:.1%})" for name, row in rows.items()]
    tasks = sorted((row["macs"], name) for name, row in found.items() if name not in rows)
    most = f", {tasks[-1][1]} most of them, {tasks[-1][0]:.1%}" if len(tasks) > 1 else ""
    return f"of multiply-adds (parameters) at most: {'; '.join(parts)}{most}" if parts else "nothing: no choice"


def advice(found: Mapping[str, Mapping[str, float]], limits: Sequence[str], space: Space) -> str:
    """What to change in the job where decoders save too little to be worth their choices; empty where they do."""
    own = found.get(OWN)
    if own is None or SHARED not in found:
        return ""
    counts = {_COUNT_OF.get(limit, "macs") for limit in limits} or {"macs"}
    layers = ", ".join(f'"{layer}"' for layer in own_layers(space))
    if max(own[count] for count in counts) >= WORTH or not layers:
        return ""
    return f"keep decoders whole, they save next to nothing: space: {{ignored_layers: [{layers}]}}"


def own_layers(space: Space) -> list[str]:
    """Names or globs for `ignored_layers` that hold exactly the channels that one task alone reaches."""
    widths = [choice for choice in space.choices if choice.kind == "width"]
    own = [choice.name for choice in widths if len(choice.owners) == 1]
    alike = takewhile(lambda level: len(set(level)) == 1, zip(*(name.split(".") for name in own), strict=False))
    stem = ".".join(level[0] for level in alike)
    held = [choice.name for choice in widths if choice.name.startswith(f"{stem}.")]
    return [f"{stem}.*"] if stem and held == own else own
