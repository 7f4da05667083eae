"""The never-slower gate against what is really slower: misaligned widths, int8 of narrow networks, and A/A pairs.

First every candidate is measured, many at a time and away from the gate: that says which changes really cost time here
although they remove multiply-adds, and which really gain. Then the gate judges those changes in pairs. It must refuse
the first (for int8, which has to pay, everything that is not faster is refused) and pass the second. Pairs of equal
files must never be a gain. Which widths are slow is found, not assumed: onnxruntime's blocked kernels want channels in
fours on these processors, other machines may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.seeds import generator
from mtnas.graph.count_model import count_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.gate import Verdict, never_slower
from mtnas.measure.protocol import measure
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.ptq import quantize_onnx
from tools.bench.record import Claim, Column, Options, Result

SIDE, LAYERS = 24, 6
SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)
PAIRS, QUICK_PAIRS = 20, 4
#: how far a change has to be from no change, to be called slower or faster by the first measurement
CLEAR = 0.06
#: as many kinds of each sort are judged
MOST, QUICK_MOST = 5, 2
COLUMNS = (
    Column("sort", "sort"),
    Column("change", "change"),
    Column("seed", "seed"),
    Column("macs_percent", "multiply-adds, % of before", 0),
    Column("scan", "ratio, first measured", 3),
    Column("before_ms", "before, ms", 4),
    Column("after_ms", "after, ms", 4),
    Column("ratio", "ratio by the gate"),
    Column("resolution_percent", "told apart above, %", 1),
    Column("verdict", "verdict"),
    Column("right", "as it should"),
)


@dataclass(frozen=True)
class Change:
    """A network before and after a step."""

    sort: str
    title: str
    before: bytes
    after: bytes
    scan: float = 1.0

    @property
    def macs_percent(self) -> float | None:
        """What is left of the multiply-adds; None for int8, where they stay."""
        if self.sort.startswith("int8"):
            return None
        counts = [count_model(onnx.load_from_string(model)).macs for model in (self.before, self.after)]
        return 100.0 * counts[1] / counts[0]

    def right(self, verdict: str) -> bool:
        """Whether the gate said what is true."""
        if self.sort == "misaligned":
            return verdict == "slower"
        if self.sort == "int8, narrow":
            return verdict != "faster"
        return verdict == "faster" if self.sort in {"true gain", "int8, wide"} else verdict == "equal"


def run(options: Options) -> Result:
    """Find the changes, ask the gate about each with every seed, and about equal files."""
    config, most = MeasureConfig(), QUICK_MOST if options.quick else MOST
    seeds = QUICK_SEEDS if options.quick else SEEDS
    found = sorted_out(width_changes(options.quick), config, most) + sorted_out(
        int8_changes(options.quick), config, most
    )
    rows = [judged(change, seed, config) for change in found for seed in seeds]
    same = chain([32] * LAYERS)
    pairs = [Change("A/A", "the same file", same, same)] * (QUICK_PAIRS if options.quick else PAIRS)
    rows += [judged(change, number, config) for number, change in enumerate(pairs)]
    note = (
        f"Chains of {LAYERS} convolutions on {SIDE}x{SIDE} pixels, onnxruntime, one thread; a seed is another order of "
        "rounds. The gate opens each network twice; only differences beyond what two copies of one network show count."
    )
    return Result(seeds, tuple(rows), COLUMNS, claims(rows), note)


def claims(rows: Sequence[Mapping[str, Any]]) -> tuple[Claim, ...]:
    """Shares in percent of what was judged as it should be, and false gains among equal files."""

    def share(*sorts: str) -> list[float]:
        return [100.0 * row["right"] for row in rows if row["sort"] in sorts]

    gains = [float(row["verdict"] == "faster") for row in rows if row["sort"] == "A/A"]
    return (
        Claim.of("fewer multiply-adds but slower: refused, %", share("misaligned"), "at least", 100),
        Claim.of("int8 of narrow networks that does not pay: refused, %", share("int8, narrow"), "at least", 100),
        Claim.of("true gains passed, %", share("true gain", "int8, wide"), "at least", 100),
        Claim.of("false gains, share of A/A pairs", gains, "at most", 0),
    )


def judged(change: Change, seed: int, config: MeasureConfig) -> dict[str, Any]:
    """One row: the gate's verdict with its numbers."""
    verdict: Verdict = never_slower(change.before, change.after, replace(config, seed=seed))
    return {
        "sort": change.sort,
        "change": change.title,
        "seed": seed,
        "macs_percent": change.macs_percent,
        "scan": change.scan if change.sort != "A/A" else None,
        "before_ms": verdict.before.value,
        "after_ms": verdict.after.value,
        "ratio": f"{verdict.ratio:.3f} ({verdict.low:.3f}–{verdict.high:.3f})",
        "resolution_percent": verdict.resolution_percent,
        "verdict": verdict.verdict,
        "right": change.right(verdict.verdict),
        "text": verdict.text,
    }


# --- candidates ---------------------------------------------------------------------------------------------------


def sorted_out(changes: Sequence[Change], config: MeasureConfig, most: int) -> list[Change]:
    """The candidates with their true sort, as far as a first measurement tells clearly; the clearest of each sort."""
    models = {f"{number} {side}": getattr(c, side) for number, c in enumerate(changes) for side in ("before", "after")}
    times = {name: record.p50.value for name, record in measure(models, replace(config, seed=1000)).items()}
    scanned = [replace(c, scan=times[f"{n} after"] / times[f"{n} before"]) for n, c in enumerate(changes)]
    found: list[Change] = []
    for quantized in (True, False):
        mine = [change for change in scanned if change.sort.startswith("int8") == quantized]
        slow = sorted((c for c in mine if c.scan > 1 + CLEAR), key=lambda c: -c.scan)
        fast = sorted((c for c in mine if c.scan < 1 - CLEAR), key=lambda c: c.scan)
        found += [replace(c, sort="int8, narrow" if quantized else "misaligned") for c in slow[:most]]
        found += [replace(c, sort="int8, wide" if quantized else "true gain") for c in fast[:most]]
    return found


def width_changes(quick: bool) -> list[Change]:
    """Chains that lose a few channels in every layer, or in every second one (1x1 kernels)."""
    changes = []
    for width in (32,) if quick else (32, 48, 64):
        for less in (1, 2, 3, 6, 8, 16):
            title = f"3x3, {width} to {width - less} channels"
            changes.append(Change("", title, chain([width] * LAYERS), chain([width - less] * LAYERS)))
    for less in () if quick else (1, 2, 15, 16, 32):
        after = [64, 64 - less] * (LAYERS // 2)
        changes.append(Change("", f"1x1, every second 64 to {64 - less}", chain([64] * LAYERS, 1), chain(after, 1)))
    return changes


def int8_changes(quick: bool) -> list[Change]:
    """Chains in int8 against the same in float."""
    rng = generator(0, "bench", "gate")
    images = [rng.standard_normal((4, 3, SIDE, SIDE)).astype(np.float32)]
    changes = []
    for width in (4, 64) if quick else (2, 4, 6, 8, 12, 16, 32, 64, 96):
        for kernel in (3,) if quick else (3, 1):
            model = onnx.load_from_string(chain([width] * LAYERS, kernel))
            after = quantize_onnx(model, images, QuantizeConfig()).SerializeToString()
            title = f"{kernel}x{kernel}, {width} channels, to int8"
            changes.append(Change("int8", title, model.SerializeToString(), after))
    return changes


def chain(widths: Sequence[int], kernel: int = 3) -> bytes:
    """Convolutions with ReLU one after another."""
    rng, nodes, weights = generator(0, "bench", "chain"), [], []
    value, channels, pads = "image", 3, [kernel // 2] * 4
    for index, width in enumerate(widths):
        scale = np.sqrt(kernel * kernel * channels)
        array = (rng.standard_normal((width, channels, kernel, kernel)) / scale).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w{index}"))
        nodes.append(helper.make_node("Conv", [value, f"w{index}"], [f"c{index}"], name=f"conv{index}", pads=pads))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], name=f"relu{index}"))
        value, channels = f"r{index}", width
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, SIDE, SIDE))],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, (1, channels, SIDE, SIDE))],
        weights,
    )
    opset = [helper.make_opsetid("", 20)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())
