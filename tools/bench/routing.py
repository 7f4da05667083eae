"""Short trainings of a small vision transformer on `scenes`: dense, and with experts that are dealt out, learned by the
task, or chosen by tokens; in equal work for one task, but for tokens, where all experts run.

Asked are two things: whether learned task routing settles, and keeps all experts in use; and whether routing is worth
its price in all-tasks-at-once work. All arms see the same images in the same order for the same number of steps, on
labels alone. A choice stands once no task's experts change any more.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.seeds import derive_seed
from mtnas.data.base import Dataset
from mtnas.data.config import DataConfig
from mtnas.data.open import open_dataset
from mtnas.elastic.recalibrate import re_estimate
from mtnas.elastic.summary import cost
from mtnas.encoders.base import Encoder
from mtnas.encoders.routed_learned import LearnedExperts
from mtnas.encoders.vit import ViT
from mtnas.encoders.vit_moe import TaskRoutedViT
from mtnas.job.schema import Job, TaskConfig
from mtnas.score.delta import CONVENTIONS, delta
from mtnas.score.score import score
from mtnas.stages.parts import make_tasks, model_targets
from mtnas.tasks.base import Task
from mtnas.train.build import with_decoders
from mtnas.train.config import FitConfig, ModelConfig
from mtnas.train.finetune import finetune
from tools.bench.record import Claim, Column, Options, Result

TASKS = ("segmentation", "depth", "normals", "edges")
TOP_K, DENSE = 2, "dense"
#: Experts and routing of each arm; the dense one has none.
ARMS: dict[str, Mapping[str, Any]] = {
    DENSE: {},
    "task, own experts": {"routing": "task"},
    "task, half as many": {"routing": "task", "experts": TOP_K * len(TASKS) // 2},
    "task, learned": {"routing": "learned", "experts": TOP_K * len(TASKS)},
    "token": {"routing": "token", "experts": TOP_K * len(TASKS)},
}
CONVENTION = "one_metric"
COLUMNS = (
    Column("arm", "experts"),
    Column("one_m", "one task, M multiply-adds", 2),
    Column("whole_m", "all tasks", 2),
    Column("delta", f"{CONVENTIONS[CONVENTION]} against dense", 2),
    Column("low", "lowest seed", 2),
    Column("high", "highest seed", 2),
    Column("stands", "choice stands after, % of training", 0),
    Column("moved", "experts of tasks that changed, %", 0),
    Column("used", "experts in use, %", 0),
)


@dataclass
class Watched:
    """What the tasks of learned layers chose, step by step."""

    steps: int = 0
    last_change: int = 0
    first: dict[str, list[int]] = field(default_factory=dict)
    chosen: dict[str, list[int]] = field(default_factory=dict)

    def look(self, model: nn.Module) -> None:
        now = choices(model)
        self.first = self.first or now
        self.steps += 1
        if self.chosen and now != self.chosen:
            self.last_change = self.steps
        self.chosen = now

    def numbers(self, model: nn.Module) -> dict[str, float | None]:
        """In per cent; nothing where no layer learns its routing."""
        if not self.chosen:
            return {"stands": None, "moved": None, "used": None}
        kept = [expert in self.first[place] for place, own in self.chosen.items() for expert in own]
        layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LearnedExperts)}
        used = {(place.rpartition("/")[0], expert) for place, own in self.chosen.items() for expert in own}
        return {
            "stands": 100 * self.last_change / self.steps,
            "moved": 100 * (1 - statistics.fmean(kept)),
            "used": 100 * len(used) / sum(len(layer.experts) for layer in layers.values()),
        }


def choices(model: nn.Module) -> dict[str, list[int]]:
    """Layer and task -> its experts."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LearnedExperts)}
    return {f"{name}/{task}": layer.experts_of(task) for name, layer in layers.items() for task in layer.logits}


def run(options: Options) -> Result:
    """Train every arm with every seed, score it on the report split."""
    torch.set_num_threads(1)
    count = 64 if options.quick else 512
    dataset = open_dataset(DataConfig(name="scenes", height=48, width=48, train=count, calibrate=64, report=256))
    tasks = make_tasks(Job(tasks=tuple(TaskConfig(name=name) for name in TASKS)), dataset.info)
    config = FitConfig(epochs=1 if options.quick else 6, precision="float32", channels_last="never", distill_weight=0)
    seeds = tuple(range(options.seeds or 3))
    found = {(arm, seed): trained(arm, seed, tasks, dataset, config) for arm in ARMS for seed in seeds}
    metrics = {name: [task.primary] for name, task in tasks.items()}
    rows, claims = [], []
    for arm in ARMS:
        each = [found[arm, seed] for seed in seeds]
        bases = [found[DENSE, seed]["scores"] for seed in seeds]
        changes = [delta(e["scores"], b, metrics, convention=CONVENTION) for e, b in zip(each, bases, strict=True)]
        rows.append({"arm": arm, **mean_of(each), "delta": statistics.fmean(changes), "low": min(changes)})
        rows[-1]["high"] = max(changes)
        if arm != DENSE:
            claims.append(Claim.of(f"{arm}: delta against dense, %", changes, "more than", 0))
    note = (
        f"Report split. {config.epochs} epochs of {count} images of 48x48 pixels, the same for all; two of the four "
        "blocks are routed. One task's file of the token arm runs all experts."
    )
    return Result(seeds, tuple(rows), COLUMNS, tuple(claims), note)


def trained(arm: str, seed: int, tasks: dict[str, Task], dataset: Dataset, config: FitConfig) -> dict[str, Any]:
    """Scores, costs and routing of one arm after its training."""
    model = network(arm, seed, tasks)
    watched = Watched()
    if any(isinstance(layer, LearnedExperts) for layer in model.modules()):
        model.register_forward_hook(lambda module, *_: watched.look(module) if module.training else None)
    with tempfile.TemporaryDirectory() as folder:
        finetune(model, tasks, dataset.split("train"), config, Path(folder), teacher=None, seed=seed)
    re_estimate(model, [image_BCHW for image_BCHW, _ in dataset.split("calibrate").batches(32)])
    image_BCHW = torch.zeros(1, 3, dataset.info.height, dataset.info.width)
    whole = cost(model, image_BCHW).macs / 1e6
    return {
        "scores": score(model, tasks, dataset.split("report")),
        "whole_m": whole,
        "one_m": one_task(model, image_BCHW),
        **watched.numbers(model),
    }


def network(arm: str, seed: int, tasks: dict[str, Task]) -> nn.Module:
    """Four blocks at width 16, of which the second and the fourth are routed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "bench", "routing"))
        size = {"width": 16, "depth": (1, 1, 1, 1), "output_stride": 8}
        encoder: Encoder = ViT(**size) if arm == DENSE else TaskRoutedViT(TASKS, top_k=TOP_K, **ARMS[arm], **size)
        return with_decoders(encoder, ModelConfig(head_width=16, head_convs=1), model_targets(tasks))


def one_task(model: nn.Module, image_BCHW: Tensor) -> float:
    """Millions of multiply-adds of the first task alone, as torch runs it."""
    told = [layer for layer in model.modules() if hasattr(layer, "active_tasks")]
    for layer in told:
        layer.active_tasks = TASKS[:1]  # type: ignore[assignment]
    alone = cost(model, image_BCHW).macs / 1e6
    for layer in told:
        layer.active_tasks = None  # type: ignore[assignment]
    return alone


def mean_of(found: list[dict[str, Any]]) -> dict[str, float | None]:
    """The mean over the seeds of every number."""
    keys = [key for key in found[0] if key != "scores"]
    return {key: None if found[0][key] is None else statistics.fmean(one[key] for one in found) for key in keys}
