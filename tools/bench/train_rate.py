"""Steps per second of the supernet trainer, against plain PyTorch loops that do the same passes.

One benchmark for each kind of step: networks that take turns (`train_rate_turns`, the default of a job), and sandwiches
(`train_rate`). Three ways, one after the other: ours (`mtnas.train` with checkpoints, curves and all), and two loops as
one would write them by hand, with the same images, losses, optimizer, arithmetic and sub-networks in every step:

- on extracted networks: every sub-network of the block is taken out as a plain module beforehand, untimed, and is run
  instead. Nothing is sliced, no gradient has to find its place: a bound that shared weights cannot reach.
- on elastic passes: the same loop with `elastic.run`, which does slice.

The plain loops prepare each batch when they need it and leave all cores to torch's operators. Ours chooses threads and
loader by its trials, before its clock starts. What it takes beyond the first loop is its overhead beyond the passes
themselves. Precision and layout are fixed, and the same everywhere. Each seed is a block in which every way runs twice,
and counts by the faster time: what else the machine does only ever slows down.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.machine import usable_cores
from mtnas.base.seeds import generator
from mtnas.data.base import Split
from mtnas.elastic.model import ElasticModel
from mtnas.job.read import read_job
from mtnas.space.arch import Arch
from mtnas.stages.context import RunContext
from mtnas.tasks.base import Task
from mtnas.train.batches import Batches
from mtnas.train.config import SANDWICH, TURNS, TrainConfig
from mtnas.train.distill import label_losses, mixed, teacher_losses
from mtnas.train.loop import train
from mtnas.train.optimizer import make_optimizer, set_rate
from mtnas.train.sampling import step_archs, turn_arch
from mtnas.train.schedule import learning_rate
from tools.bench.record import Claim, Column, Options, Result

SEEDS, QUICK_SEEDS = (0, 1, 2, 3, 4), (0, 1, 2)
#: images of a block, and of the train split that is made for it
IMAGES, QUICK_IMAGES = 1024, 96
REPEATS = 2
SANDWICHES: dict[str, Any] = {"step": SANDWICH, "distill_weight": 0.5, "feature_distill": "none"}
IN_TURNS: dict[str, Any] = {"step": TURNS}
ARITHMETIC = {"precision": "bfloat16", "channels_last": "always"}
COLUMNS = (
    Column("seed", "seed"),
    Column("steps", "steps"),
    Column("ours_ms", "ours, ms a step", 1),
    Column("extracted_ms", "by hand, extracted, ms", 1),
    Column("elastic_ms", "by hand, elastic, ms", 1),
    Column("overhead", "over extracted, %", 1),
    Column("engine", "over elastic, %", 1),
    Column("images", "ours, images/s", 0),
    Column("mode", "chosen by ours"),
)

Forward = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Work:
    """What all ways do: one elastic network, tasks, data, settings."""

    elastic: ElasticModel
    tasks: dict[str, Task]
    split: Split
    config: TrainConfig
    start: dict[str, Tensor]

    @staticmethod
    def of_the_demo(images: int, folder: Path, step: dict[str, Any]) -> Work:
        """The embedded job's network and scenes, one epoch; `step` are the settings of its kind of step."""
        job = read_job(None, [f"data.train={images}", "space.round_to=16"])
        context = RunContext(job, folder)
        settings = {"epochs": 1, "batch_size": job.train.batch_size, "warmup_epochs": 0.0, **ARITHMETIC, **step}
        elastic, split = context.elastic, context.split("train")
        pair_BCHW, _targets = split.batch([0, 1])
        elastic.calibrate_with(lambda: [pair_BCHW])  # statistics are not read by training; any will do
        return Work(elastic, context.tasks, split, TrainConfig(**settings), elastic.state())

    def batches(self, seed: int) -> Batches:
        return Batches(self.split, min(self.config.batch_size, len(self.split)), seed, self.config.augment)

    def steps(self, seed: int) -> int:
        return self.batches(seed).per_epoch * self.config.round

    def archs(self, seed: int, step: int) -> list[Arch]:
        """The networks of a step, the one that leads it first."""
        space, rng = self.elastic.space, generator(seed, "archs", step)
        drawn = step_archs(space, rng, self.config, space.largest)
        if self.config.takes_turns:
            return [turn_arch(drawn, space.largest, step)]
        return [space.largest, *(arch for alike in drawn for arch in alike)]


def run(options: Options) -> Result:
    """Steps of several networks."""
    return _run(options, SANDWICHES, "the sandwich's own passes")


def run_turns(options: Options) -> Result:
    """Steps of one network each."""
    return _run(options, IN_TURNS, "the networks' own passes")


def _run(options: Options, step: dict[str, Any], passes: str) -> Result:
    """Blocks of all ways for every seed; the first block of each is not counted."""
    torch.set_num_threads(usable_cores())
    seeds = QUICK_SEEDS if options.quick else SEEDS[: options.seeds]
    with tempfile.TemporaryDirectory() as folder:
        work = Work.of_the_demo(QUICK_IMAGES if options.quick else IMAGES, Path(folder) / "job", step)
        block(work, seeds[0], Path(folder) / "warm-up", 0)
        rows = [block(work, seed, Path(folder) / str(seed), turn) for turn, seed in enumerate(seeds)]
    claims = (
        Claim.of(f"overhead beyond {passes}, %", [row["overhead"] for row in rows], "at most", 10),
        Claim.of("overhead over the same elastic passes, %", [row["engine"] for row in rows], "at most", 10),
    )
    networks = "one network" if work.config.takes_turns else f"{2 + work.config.random_widths} networks"
    note = (
        f"The embedded job's network and images, batches of {work.config.batch_size}, {networks} a step, bfloat16, "
        f"channels_last; a seed is one block, in which every way runs {REPEATS} times and counts by its fastest. Ours "
        "includes checkpoints and curves."
    )
    return Result(tuple(seeds), tuple(rows), COLUMNS, claims, note, {"threads": torch.get_num_threads()})


def block(work: Work, seed: int, out: Path, turn: int) -> dict[str, Any]:
    """Seconds of one epoch each way, every way in every place of the order by turns."""
    found: dict[str, tuple[float, str]] = {}
    ways: list[tuple[str, Callable[[Path], tuple[float, str]]]] = [
        ("ours", lambda out: ours(work, seed, out)),
        ("extracted", lambda _: (by_hand(work, seed, extracted(work, seed), elsewhere=True), "")),
        ("elastic", lambda _: (by_hand(work, seed, elastic_passes(work, seed)), "")),
    ]
    for k in range(REPEATS * len(ways)):
        name, way = ways[(turn + k) % len(ways)]
        work.elastic.load_state(work.start)
        seconds = way(out / str(k))
        found[name] = min(found.get(name, seconds), seconds)
    steps = work.steps(seed)
    ms = {name: 1000 * seconds / steps for name, (seconds, _) in found.items()}
    return {
        "seed": seed,
        "steps": steps,
        **{f"{name}_ms": round(value, 2) for name, value in ms.items()},
        "overhead": round(100 * (ms["ours"] / ms["extracted"] - 1), 2),
        "engine": round(100 * (ms["ours"] / ms["elastic"] - 1), 2),
        "images": round(1000 * work.config.batch_size / ms["ours"], 1),
        "mode": found["ours"][1],
    }


def ours(work: Work, seed: int, out: Path) -> tuple[float, str]:
    result = train(work.elastic, work.tasks, work.split, work.config, out, seed=seed)
    return result.seconds, f"{result.threads} thread(s)"


def extracted(work: Work, seed: int) -> list[list[Forward]]:
    """The networks of every step as plain modules; the largest is the model itself, values of others matter not."""

    def module(arch: Arch) -> nn.Module:
        if arch == work.elastic.space.largest:
            return work.elastic.model
        return work.elastic.extract(arch).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]

    return [[module(arch) for arch in work.archs(seed, step)] for step in range(work.steps(seed))]


def elastic_passes(work: Work, seed: int) -> list[list[Forward]]:
    """The networks of every step as views of the full one."""

    def view(arch: Arch) -> Forward:
        return lambda image: work.elastic.run(image, work.elastic.selection(arch), training=True)

    return [[view(arch) for arch in work.archs(seed, step)] for step in range(work.steps(seed))]


def by_hand(work: Work, seed: int, passes: Sequence[Sequence[Forward]], *, elsewhere: bool = False) -> float:
    """Seconds of one epoch in a plain loop; no loader, no curves, no checkpoints.

    The optimizer steps on the whole model; with `elsewhere`, for networks whose gradients are not its own, also where a
    step has left it none.
    """
    config, model, batches = work.config, work.elastic.model, work.batches(seed)
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(config, model, ())
    started = time.perf_counter()
    for step, networks in enumerate(passes):
        image_BCHW, targets = batches.at(step)
        image_BCHW = image_BCHW.contiguous(memory_format=torch.channels_last)
        teacher: dict[str, Tensor] = {}
        for network in networks:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
                outputs = network(image_BCHW)
            losses = label_losses(work.tasks, outputs, targets)
            if teacher:
                losses = mixed(losses, teacher_losses(work.tasks, outputs, teacher), config.distill_weight)
            total = sum(task.spec.weight * losses[name] for name, task in work.tasks.items())
            (total / len(networks)).backward()
            teacher = teacher or {name: output.detach() for name, output in outputs.items()}
        for parameter in model.parameters() if elsewhere else ():
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        set_rate(optimizer, learning_rate(step, total=len(passes), warmup=0, peak=config.lr))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - started
    model.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return seconds
