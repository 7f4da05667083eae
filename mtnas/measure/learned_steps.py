"""Which features a predictor reads: the width stairs of a device, learned.

Multiply-adds come with channels rounded up to several steps (`mtnas.graph.features`). A runtime has one true step for
each kind of layer and precision; cross-validation finds it, first one step for all, then kind by kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_CLASS = re.compile(r"class/(?P<kind>[^@]+)@(?P<place>.*)/macs(?P<step>\d*)")
#: Features that say the same as others, only coarser or finer.
_SUMS = ("total/", "total.", "branch/", "layer/")
#: A kind gets a step of its own only when that takes this share off the error.
_WORTH = 0.01
_WORTH_MORE = 0.05

Error = Callable[[Sequence[int]], float]


@dataclass(frozen=True)
class Columns:
    """A choice of features.

    Args:
        name: such as `step 16`.
        index: places of the features.
        steps: channels per step of every kind of layer, where that was learned.
    """

    name: str
    index: tuple[int, ...]
    steps: Mapping[str, int] = field(default_factory=dict)


def family(kind: str) -> str:
    """Kinds that share a step: `conv3x3s2+add.int8` and `conv3x3.int8` do."""
    plain, _, tag = kind.partition(".")
    return re.sub(r"s\d+$", "", plain.split("+")[0]) + (f".{tag}" if tag else "")


def alternatives(names: Sequence[str], count: int) -> list[Columns]:
    """What to choose from: one step for all kinds, single layers, everything. Everything alone without names."""
    everything = Columns("all features", tuple(range(count)))
    found = [match for match in map(_CLASS.fullmatch, names) if match]
    if not found:
        return [everything]
    families = dict.fromkeys(family(match["kind"]) for match in found)
    steps = sorted({int(match["step"] or 1) for match in found})
    single = tuple(i for i, name in enumerate(names) if name.startswith("layer/") or _amount(name) == "other")
    return [
        *(with_steps(names, dict.fromkeys(families, step), f"step {step}") for step in steps),
        Columns("layers", single),
        everything,
    ]


def with_steps(names: Sequence[str], steps: Mapping[str, int], title: str) -> Columns:
    """Every kind's multiply-adds at its step, bytes as they are."""
    index = []
    for place, name in enumerate(names):
        match = _CLASS.fullmatch(name)
        wanted = _amount(name) == "other" if match is None else int(match["step"] or 1) == steps[family(match["kind"])]
        if wanted:
            index.append(place)
    return Columns(title, tuple(index), dict(steps))


def _amount(name: str) -> str:
    if _CLASS.fullmatch(name):
        return "macs"
    if name.startswith(_SUMS) and name != "total/weight_bytes":
        return "sum"
    return "rounded bytes" if name.endswith("/bytes16") else "other"


def learn(names: Sequence[str], count: int, error: Error, scores: dict[str, float]) -> Columns:
    """The features with the smallest error.

    Args:
        names: of the features, in order; empty when unknown.
        count: of the features.
        error: cross-validated error of a fit on these columns.
        scores: gets the error of every alternative that was tried.
    """
    table = alternatives(names, count)
    for columns in table:
        scores[columns.name] = error(columns.index)
    stepped = [columns for columns in table if columns.steps]
    if not stepped:
        return table[0]
    best = min(stepped, key=lambda columns: scores[columns.name])
    best, least = _kind_by_kind(names, best, scores[best.name], error, scores)
    for columns in table:
        # More features for the same work are believed only when they are clearly better.
        if not columns.steps and scores[columns.name] < (1.0 - _WORTH_MORE) * least:
            best, least = columns, scores[columns.name]
    return best


def _kind_by_kind(
    names: Sequence[str], best: Columns, least: float, error: Error, scores: dict[str, float]
) -> tuple[Columns, float]:
    steps = sorted({int(match["step"] or 1) for match in map(_CLASS.fullmatch, names) if match})
    for kind in list(best.steps):
        for step in steps:
            if step == best.steps[kind]:
                continue
            columns = with_steps(names, {**best.steps, kind: step}, "a step for each kind")
            found = error(columns.index)
            scores[f"{kind} at step {step}"] = found
            if found < (1.0 - _WORTH) * least:
                best, least = columns, found
    return best, least
