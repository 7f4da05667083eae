"""Space: what may shrink, what may not and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtnas.report.gather import Record, Results
from mtnas.report.html import Html, badge, div, facts, folded, join, table, tag
from mtnas.report.sections import stairs
from mtnas.report.words import channels_per_unit, large, number, tasks_of


def render(results: Results) -> Html:
    """Size of the space, every channel group, the blocks that may be left out, the forks, and the input sizes."""
    space = results["space"]
    if not space:
        return Html("")
    groups = space.get("groups") or ()
    tasks = tasks_of(results)
    free = [group for group in groups if not group.get("frozen") and len(group.get("options") or ()) > 1]
    pairs = [
        ("networks in the space", join("10", tag("sup", None, number(space.get("log10_size"), 3)))),
        ("channel groups", f"{len(groups)}, of which {len(free)} may shrink"),
        ("largest", _counts(space.get("largest"))),
        ("smallest", _counts(space.get("smallest"))),
    ]
    if saved := _savings(space.get("savings") or {}, tasks):
        pairs.append(("saves at most, of multiply-adds", saved))
    per_unit = channels_per_unit(results)
    rows = [
        (
            group.get("name", ""),
            _owners(group.get("owners") or (), tasks),
            badge("warn", "frozen") if group.get("frozen") else "",
            group.get("frozen")
            or " · ".join(str(option * per_unit[str(group.get("name"))]) for option in group.get("options") or ()),
            group.get("size", 0) * per_unit[str(group.get("name"))],
        )
        for group in groups
    ]
    head = ("group", "owners", "", "channels it may have, or why it may not shrink", "all channels")
    every = folded(f"All {len(groups)} channel groups", table("Channel groups", head, rows, 4))
    blocks, forks = _blocks(space.get("blocks") or (), tasks), _forks(space.get("forks") or (), tasks)
    more = blocks, forks, _sizes(space.get("input_sizes") or ())
    return join(facts(pairs), every, *more, stairs.render(results))


def _blocks(blocks: Sequence[Record], tasks: tuple[str, ...]) -> Html:
    """Every block that only adds to its input: the depth choice it belongs to, or why it stays."""
    if not blocks:
        return Html("")
    rows = [
        (
            block.get("name", ""),
            _owners(block.get("owners") or (), tasks),
            badge("warn", "stays") if block.get("refused") else "",
            block.get("refused") or block.get("stage", ""),
        )
        for block in blocks
    ]
    head = ("block", "owners", "", "depth choice, or why it may not be left out")
    return folded(f"All {len(blocks)} residual blocks", table("Residual blocks", head, rows))


def _forks(forks: Sequence[Record], tasks: tuple[str, ...]) -> Html:
    """Every fork: its options with what they cost, or why it keeps its default."""
    if not forks:
        return Html("")
    rows = []
    for fork in forks:
        options = zip(fork.get("options") or (), fork.get("macs") or (), strict=False)
        told = " · ".join(f"{option} ({large(macs)})" for option, macs in options)
        stays = badge("warn", "stays") if fork.get("refused") else ""
        owners = _owners(fork.get("owners") or (), tasks)
        rows.append((fork.get("name", ""), owners, fork.get("kind", ""), stays, fork.get("refused") or told))
    head = ("fork", "owners", "choice", "", "options with their multiply-adds at full width, or why there are none")
    return folded(f"All {len(forks)} forks", table("Forks", head, rows))


def _sizes(rows: Sequence[Record]) -> Html:
    """Every input size that the rules ask for, and why the network does not run at it."""
    if len(rows) < 2:
        return Html("")
    cells = [
        (row.get("size", ""), badge("warn", "refused") if row.get("refused") else "", row.get("refused", ""))
        for row in rows
    ]
    return folded("Input sizes", table("Input sizes", ("height x width", "", "why it is not taken"), cells))


def _counts(counts: object) -> Html | str:
    if not isinstance(counts, dict):
        return ""
    text = f"{large(counts.get('macs'))} multiply-adds · {large(counts.get('params'))} parameters"
    return div("", f"{text} · {number(counts.get('size_mb'), 3)} MB")


def _savings(rows: Mapping[str, Record], tasks: tuple[str, ...]) -> str:
    """What parts of several tasks, or the whole, save at their smallest: where a search can find anything at all."""
    shares = {name: row.get("macs") for name, row in rows.items() if name not in tasks}
    return " · ".join(f"{name} {share:.0%}" for name, share in shares.items() if isinstance(share, float))


def _owners(owners: object, tasks: tuple[str, ...]) -> str:
    names = [str(owner) for owner in owners] if isinstance(owners, (list, tuple)) else []
    return (
        f"shared by {'all tasks' if set(names) == set(tasks) else ', '.join(names)}"
        if len(names) > 1
        else ", ".join(names)
    )
