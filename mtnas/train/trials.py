"""Short trials of real steps: which arithmetic, how many threads, and whether batches are prepared beside the step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from mtnas.base.machine import usable_cores
from mtnas.base.progress import Progress, Task
from mtnas.train.batches import Batches
from mtnas.train.config import FitConfig
from mtnas.train.gradients import StepGradients
from mtnas.train.objective import place
from mtnas.train.precision import Mode, crews, fastest, modes
from mtnas.train.state import FitState, load_module

#: With up to so many threads, trials start with one: other work on the same cores then disturbs them less.
FEW_THREADS = 4

#: Steps of a trial; the first one pays for memory and kernels, and is not counted.
STEPS = 4


@dataclass(frozen=True)
class Trials:
    """Times steps of a training that has not begun.

    Args:
        state: what is trained; it is put back after each trial.
        batches: the first ones are used.
        gradients: what a step computes.
        total: steps of the training, the most that a trial takes.
        progress: shows a bar over the trials.
        title: of the training.
    """

    state: FitState
    batches: Batches
    gradients: StepGradients
    total: int
    progress: Progress
    title: str

    def choose(self, config: FitConfig, device: torch.device) -> tuple[Mode, dict[str, float]]:
        """The mode to take, and seconds of every one that was tried; processes decide alike."""
        threads = torch.get_num_threads()
        few = device.type == "cpu" and threads <= FEW_THREADS
        candidates = modes(config, 1 if few else threads)
        trial = cache(lambda mode: self.seconds(mode, device, bar))
        with self.progress.task(f"{self.title}: trying modes", len(candidates) + 1) as bar:
            mode, trials = fastest(candidates, trial)
            others = crews(mode, threads, usable_cores()) if device.type == "cpu" else []
            if others:
                mode, more = fastest([mode, *others], trial)
                trials |= more
        if trials:
            self.progress.note(f"{self.title}: fastest as {mode.text}")
        return mode, trials

    def seconds(self, mode: Mode, device: torch.device, bar: Task) -> float:
        """Of a real step and of its batch in this mode, in the slowest process; changes no state."""
        module, beside = self.state.module, self.state.beside
        kept = cloned(module)
        learned = {name: cloned(part) for name, part in beside.items()}
        mode.lay_out(module)
        took, last = list[float](), (self.total - 1) / self.total  # when most options are open
        with mode.threaded():
            started = time.perf_counter()
            for batch in self.batches.stream(0, min(STEPS, self.total), mode.ahead):
                self.gradients.collect(place(0, batch, mode, device, last))
                self.state.optimizer.zero_grad(set_to_none=True)
                took.append(time.perf_counter() - started)
                started = time.perf_counter()
        load_module(module, kept, self.title)
        for name, part in beside.items():
            part.load_state_dict(learned[name])
        bar.advance(1, mode=str(mode))
        return self.batches.ranks.largest(min(took[1:] or took))


def cloned(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
