"""The never-slower gate as every stage asks it: what came in against what goes on, measured side by side, one record.

A stage hands on something slower than it received only when it says so. The decision is `never_slower`'s: interleaved
rounds, an interval, and what two copies of one file differ by here and now (A/A). Files with equal bytes are not
measured: there is nothing to tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mtnas.base.progress import Progress
from mtnas.measure.config import MeasureConfig
from mtnas.measure.gate import Verdict, never_slower

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Gate:
    """One passage through the gate.

    Args:
        step: what was done: `prune`, `fuse`, `quantize`, `export`.
        verdict: `faster`, `equal`, `slower`, or `unchanged` for equal files.
        text: the numbers in one sentence.
        measured: the comparison; None when nothing was measured.
        decision: what is handed on, and why.
    """

    step: str
    verdict: str
    text: str
    measured: Verdict | None
    decision: str = ""

    @property
    def faster(self) -> bool:
        return self.verdict == "faster"

    @property
    def slower(self) -> bool:
        return self.verdict == "slower"

    def decided(self, decision: str) -> Gate:
        """The same with the decision that was taken."""
        return replace(self, decision=decision)

    def to_json(self) -> dict[str, Any]:
        numbers = self.measured.to_json() if self.measured else {"schema": "gate/1"}
        return {
            **numbers,
            "step": self.step,
            "verdict": self.verdict,
            "text": self.text,
            "decision": self.decision,
        }


def gated(step: str, before: bytes, after: bytes, config: MeasureConfig, progress: Progress | None = None) -> Gate:
    """Ask the gate about one step.

    Args:
        step: its name in the record.
        before, after: ONNX files.
        config: how and where to measure.
        progress: shows a bar.
    """
    if before == after:
        return Gate(step, UNCHANGED, f"{UNCHANGED}: both files are equal byte for byte", None)
    verdict = never_slower(before, after, config, progress=progress)
    return Gate(step, verdict.verdict, verdict.text, verdict)
