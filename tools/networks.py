"""The tables of docs/networks.md, counted from the encoders and heads themselves.

`python -m tools.networks` rewrites what stands between `<!-- counted:NAME -->` and `<!-- end -->`; `--check` changes
nothing and exits with 1 when a table is not what the networks are.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtnas.base.files import write_text
from mtnas.encoders.make import make_encoder
from mtnas.encoders.table import ENCODERS, SIZES
from mtnas.heads.make import make_head, make_joint_head
from mtnas.heads.table import DENSE_HEADS, HEADS, JOINT_HEADS
from tools.tables import markdown

PAGE = Path("docs/networks.md")
SIDE = 224
_MARK = re.compile(r"(<!-- counted:(\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def counted(network: nn.Module, *inputs: object) -> tuple[int, int]:
    """Parameters, and multiply-adds of one pass."""
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        network.eval()(*inputs)
    return sum(parameter.numel() for parameter in network.parameters()), flops.get_total_flops() // 2


@functools.cache
def encoders() -> str:
    """Every encoder in its own size, strides up to 32; of those made for tasks, one task's."""
    lines = []
    for name in ENCODERS:
        with torch.device("meta"):
            encoder = make_encoder(name, output_stride=32, tasks=["a"])
            parameters, macs = counted(encoder, torch.empty(1, 3, SIDE, SIDE))
        width, blocks = SIZES[name]
        channels = ", ".join(str(level.channels) for level in encoder.levels)
        lines.append([f"`{name}`", str(width), str(list(blocks)), channels, f"{parameters:,}", f"{macs / 1e6:,.0f}"])
    titles = [
        "encoder",
        "own width",
        "own blocks",
        "channels of its levels",
        "parameters",
        f"M multiply-adds at {SIDE}",
    ]
    return markdown(titles, lines)


@functools.cache
def heads() -> str:
    """Every head on the levels of the small resnet, for one task of ten channels; joint decoders for three of them."""
    lines = []
    for name in (*HEADS, *JOINT_HEADS):
        with torch.device("meta"):
            encoder = make_encoder("resnet", output_stride=16).eval()
            maps = encoder(torch.empty(1, 3, SIDE, SIDE))
            levels = [level.channels for level in encoder.levels]
            joint = name in JOINT_HEADS
            head = (
                make_joint_head(name, level_channels=levels, channels=dict.fromkeys("abc", 10), width=48)
                if joint
                else make_head(name, level_channels=levels, channels=10, width=48)
            )
            parameters, macs = counted(head, maps, (SIDE, SIDE))
        kind = "all pixel tasks together" if joint else "one pixel task" if name in DENSE_HEADS else "one image task"
        lines.append([f"`{name}`", kind, "3" if joint else "1", f"{parameters:,}", f"{macs / 1e6:,.0f}"])
    return markdown(["head", "decodes", "tasks counted", "parameters", f"M multiply-adds at {SIDE}"], lines)


TABLES: dict[str, Callable[[], str]] = {"encoders": encoders, "heads": heads}


def filled(text: str) -> str:
    """The page with all tables made anew."""
    return _MARK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[4]}", text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a table is stale")
    check = parser.parse_args(arguments).check
    old = PAGE.read_text(encoding="utf-8")
    new = filled(old)
    if not check:
        write_text(PAGE, new)
    return int(check and old != new)


if __name__ == "__main__":
    sys.exit(main())
