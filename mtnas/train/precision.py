"""How the arithmetic runs: float32 or bfloat16 autocast, contiguous or channels-last, one thread or all.

Tried out, not assumed: which one is fastest depends on the CPU, on the network, and on what else the machine does
(two threads on two busy cores were seen to take five times as long as one).

Batches are prepared in a thread beside the step, or in turn with it. Beside is best while a core is left for it. Where
every core has a thread of an operator, a further one costs more than it brings: at the end of each operator all its
threads wait for the one that was put aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.train.config import FitConfig

#: A mode must be this much faster than the one before it in the list to be taken.
GAIN = 1.1


@dataclass(frozen=True)
class Mode:
    """One way to run the arithmetic.

    Args:
        precision: `float32` or `bfloat16`.
        channels_last: the layout of images and weights.
        threads: of one operator; part of the mode, since sums over threads are rounded differently.
        ahead: the next batch is prepared beside the step, not after it.
    """

    precision: str
    channels_last: bool
    threads: int = 1
    ahead: bool = True

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context of forward passes; gradients and weights stay float32."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def lay_out(self, module: nn.Module) -> None:
        """Give the module's weights this layout, in place; their values stay."""
        module.to(memory_format=self.layout)  # type: ignore[call-overload]

    def image(self, image_BCHW: Tensor, device: torch.device) -> Tensor:
        return image_BCHW.to(device, memory_format=self.layout)

    @contextmanager
    def threaded(self) -> Iterator[None]:
        """Inside, torch uses this many threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def __str__(self) -> str:
        return f"{self.precision}, {'channels_last' if self.channels_last else 'contiguous'}"

    @property
    def text(self) -> str:
        """With the threads and how they are fed."""
        return f"{self}, {self.threads} thread(s)" + ("" if self.ahead else ", batches in turn")


def modes(config: FitConfig, threads: int = 1) -> list[Mode]:
    """The modes the settings allow, plainest first."""
    precisions = ["float32", "bfloat16"] if config.precision == "auto" else [config.precision]
    layouts = {"auto": [False, True], "always": [True], "never": [False]}[config.channels_last]
    return [Mode(precision, layout, threads) for precision in precisions for layout in layouts]


def crews(mode: Mode, threads: int, cores: int) -> list[Mode]:
    """What else to try beside `mode`: all threads where it has one, and batches in turn where no core is left."""
    if threads == 1:
        return []
    other = replace(mode, threads=threads, ahead=threads < cores)
    return [other] if other != mode else []


def fastest(candidates: list[Mode], seconds: Callable[[Mode], float]) -> tuple[Mode, dict[str, float]]:
    """The mode to take, and what each trial took; nothing is tried when there is no choice.

    Args:
        candidates: plainest first; a later one has to be faster by `GAIN`.
        seconds: times real training steps in one mode.
    """
    if len(candidates) == 1:
        return candidates[0], {}
    trials = {mode: seconds(mode) for mode in candidates}
    best = candidates[0]
    for mode in candidates[1:]:
        if trials[mode] * GAIN < trials[best]:
            best = mode
    return best, {mode.text: round(took, 6) for mode, took in trials.items()}
