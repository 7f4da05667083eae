"""Steps per second of the supernet trainer, against plain PyTorch loops that do the same passes.

Three ways, in turns: ours (`mtnas.train` with checkpoints, curves and all), and two loops as one would write them by
hand, with the same images, losses, optimizer, arithmetic and sub-networks in every step:

- on extracted networks: every sub-network of the block is taken out as a plain module beforehand, untimed, and is run
  instead. Nothing is sliced, no gradient has to find its place: a bound that no sandwich on shared weights can reach.
- on elastic passes: the same loop with `elastic.run`, which does slice.

The plain loops prepare each batch when they need it and leave all cores to torch's operators. Ours chooses threads and
loader by its trials, before its clock starts. What it takes beyond the first loop is its overhead beyond the passes
of the sandwich. Precision and layout are fixed, and the same everywhere. Each seed is one block of each way.
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
from mtnas.stages.context import RunContext
from mtnas.tasks.base import Task
from mtnas.train.batches import Batches
from mtnas.train.config import TrainConfig
from mtnas.train.distill import label_losses, mixed, teacher_losses
from mtnas.train.loop import train
from mtnas.train.optimizer import make_optimizer, set_rate
from mtnas.train.sampling import step_archs
from mtnas.train.schedule import learning_rate
from tools.bench.record import Claim, Column, Options, Result

SEEDS, QUICK_SEEDS = (0, 1, 2, 3, 4), (0, 1, 2)
#: images of a block, and of the train split that is made for it
IMAGES, QUICK_IMAGES = 1024, 96
LEARNED: dict[str, Any] = {"distill_weight": 0.5, "feature_distill": "none"}
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
    def of_the_demo(images: int, folder: Path) -> Work:
        """The embedded job's network and scenes, one epoch; sub-networks learn from the largest one's outputs."""
        job = read_job(None, [f"data.train={images}", "space.round_to=16"])
        context = RunContext(job, folder)
        settings = {"epochs": 1, "batch_size": job.train.batch_size, "warmup_epochs": 0.0, **ARITHMETIC, **LEARNED}
        elastic, split = context.elastic, context.split("train")
        pair_BCHW, _targets = split.batch([0, 1])
        elastic.calibrate_with(lambda: [pair_BCHW])  # statistics are not read by training; any will do
        return Work(elastic, context.tasks, split, TrainConfig(**settings), elastic.state())

    def batches(self, seed: int) -> Batches:
        return Batches(self.split, min(self.config.batch_size, len(self.split)), seed, self.config.augment)

    def archs(self, seed: int, step: int) -> list[Any]:
        rng = generator(seed, "archs", step)
        return [
            arch
            for alike in step_archs(self.elastic.space, rng, self.config, self.elastic.space.largest)
            for arch in alike
        ]


def run(options: Options) -> Result:
    """Blocks of all ways for every seed; the first block of each is not counted."""
    torch.set_num_threads(usable_cores())
    seeds = QUICK_SEEDS if options.quick else SEEDS[: options.seeds]
    with tempfile.TemporaryDirectory() as folder:
        work = Work.of_the_demo(QUICK_IMAGES if options.quick else IMAGES, Path(folder) / "job")
        block(work, seeds[0], Path(folder) / "warm-up", 0)
        rows = [block(work, seed, Path(folder) / str(seed), turn) for turn, seed in enumerate(seeds)]
    claims = (
        Claim.of("overhead beyond the sandwich's own passes, %", [row["overhead"] for row in rows], "at most", 10),
        Claim.of("overhead over the same elastic passes, %", [row["engine"] for row in rows], "at most", 10),
    )
    note = (
        f"The embedded job's network and images, batches of {work.config.batch_size}, "
        f"{2 + work.config.random_widths} networks a step, bfloat16, channels_last; a seed is one block of every way, "
        "in turns. Ours includes checkpoints and curves."
    )
    return Result(tuple(seeds), tuple(rows), COLUMNS, claims, note, {"threads": torch.get_num_threads()})


def block(work: Work, seed: int, out: Path, turn: int) -> dict[str, Any]:
    """Seconds of one epoch each way, every way in every place of the order by turns."""
    found: dict[str, tuple[float, str]] = {}
    ways: list[tuple[str, Callable[[], tuple[float, str]]]] = [
        ("ours", lambda: ours(work, seed, out)),
        ("extracted", lambda: (by_hand(work, seed, extracted(work, seed)), "")),
        ("elastic", lambda: (by_hand(work, seed, elastic_passes(work, seed)), "")),
    ]
    for k in range(len(ways)):
        name, way = ways[(turn + k) % len(ways)]
        work.elastic.load_state(work.start)
        found[name] = way()
    steps = work.batches(seed).per_epoch
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
    """The networks of every step as plain modules, the largest first; values of the others matter to no clock."""

    def module(arch: Any) -> nn.Module:
        return work.elastic.extract(arch).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]

    steps = range(work.batches(seed).per_epoch)
    return [[work.elastic.model, *map(module, work.archs(seed, step))] for step in steps]


def elastic_passes(work: Work, seed: int) -> list[list[Forward]]:
    """The networks of every step as views of the full one, the largest first."""

    def view(arch: Any) -> Forward:
        return lambda image: work.elastic.run(image, work.elastic.selection(arch), training=True)

    largest = work.elastic.space.largest
    steps = range(work.batches(seed).per_epoch)
    return [[view(arch) for arch in (largest, *work.archs(seed, step))] for step in steps]


def by_hand(work: Work, seed: int, passes: Sequence[Sequence[Forward]]) -> float:
    """Seconds of one epoch of the sandwich in a plain loop; no loader, no curves, no checkpoints."""
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
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        set_rate(optimizer, learning_rate(step, total=len(passes), warmup=0, peak=config.lr))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - started
    model.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return seconds
