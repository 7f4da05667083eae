"""What one task alone costs in a task-routed vision transformer, against all tasks, and against a shared dense one.

"Whole" is the file that answers every task of the data set at once: the routed network runs its blocks once for all
tasks up to the first routed MLP, then once per task. So of T tasks the saving stays below 1 - 1/T, which is what it
would be if nothing were shared and all heads cost the same; that bound stands beside it. "Dense whole" is a shared ViT
whose MLPs cost what a task's experts cost, with the same heads; "token-routed" is one task where tokens choose, so that
every expert runs. Experts start with the second block, as in M3ViT, or with the second half of the blocks.
Multiply-adds are counted from the network as it runs; of `scenes` from the exported files as well, which must agree,
and which are timed. Nothing depends on a seed: the values behind a claim are the tasks.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtnas.base.seeds import derive_seed
from mtnas.encoders.base import Encoder
from mtnas.encoders.vit import ViT
from mtnas.encoders.vit_moe import TaskRoutedViT
from mtnas.export.onnx_file import export_onnx
from mtnas.graph.count_model import count_model
from mtnas.graph.subset import keep_outputs
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet
from tools.bench.record import Claim, Column, Options, Result

EXPERTS, TOP_K = 16, 4
COLUMNS = (
    Column("data", "tasks of"),
    Column("tasks", "tasks", 0),
    Column("first", "experts from block", 0),
    Column("one_m", "one task, M multiply-adds", 1),
    Column("whole_m", "whole", 1),
    Column("fewer", "fewer, %", 1),
    Column("bound", "at most, %", 1),
    Column("shared_m", "shared part", 1),
    Column("dense_whole_m", "dense whole", 1),
    Column("token_m", "one task, token-routed", 1),
    Column("one_mb", "one task, MB", 2),
    Column("whole_mb", "whole, MB", 2),
    Column("one_ms", "one task, p50 ms", 2),
    Column("whole_ms", "whole, p50 ms", 2),
)
EXPORTED = "scenes"


@dataclass(frozen=True)
class Subject:
    """Tasks of a data set: (head, channels) by name, the side of its images in pixels, the tokens' stride."""

    tasks: Mapping[str, tuple[str, int]]
    side: int
    stride: int = 16


SUBJECTS: dict[str, Subject] = {
    "scenes": Subject(
        {"segmentation": ("fpn", 13), "depth": ("fpn", 1), "normals": ("fpn", 3), "edges": ("fpn", 1)}, 128
    ),
    "pets3": Subject(
        {
            "breed": ("pooled", 3),
            "species": ("pooled", 2),
            "trimap": ("fpn", 3),
            "body": ("pooled", 4),
            "head": ("pooled", 4),
        },
        128,
    ),
    "cifar100-mtl": Subject({f"superclass_{number}": ("pooled", 5) for number in range(20)}, 32, 4),
}


def run(options: Options) -> Result:
    """Count every task of every data set, and time the files of one."""
    torch.set_num_threads(1)
    width, depth = (16, (1, 1, 1, 1)) if options.quick else (48, (3, 3, 3, 3))
    rows: list[dict[str, Any]] = []
    claims: list[Claim] = []
    for name, subject in SUBJECTS.items():
        for shared in (1, sum(depth) // 2):
            size = {"width": width, "depth": depth, "output_stride": subject.stride}
            row, fewer = compare(subject, size, {"experts": EXPERTS, "top_k": TOP_K, "shared": shared})
            if name == EXPORTED and shared == 1:
                row |= files(subject, size, row)
            rows.append({"data": name, "tasks": len(subject.tasks), "first": shared + 1, **row})
            told = f"{name}, {len(fewer)} tasks, experts from block {shared + 1} (at most {row['bound']:.1f} %)"
            claims.append(
                Claim.of(f"{told}: fewer multiply-adds of one task than of the whole, %", fewer, "at least", 80)
            )
    note = (
        "Counted, not drawn: values behind a claim are the tasks. Times: onnxruntime, one thread, files in turn, on a "
        "machine that was busy with other work."
    )
    return Result((0,), tuple(rows), COLUMNS, tuple(claims), note)


def network(encoder: Encoder, subject: Subject) -> MultiTaskNet:
    """The encoder with one head for every task."""
    channels = [level.channels for level in encoder.levels]
    heads = {
        task: make_head(head, level_channels=channels, channels=count, width=32)
        for task, (head, count) in subject.tasks.items()
    }
    return MultiTaskNet(encoder, heads).eval()


def compare(
    subject: Subject, size: Mapping[str, Any], experts: Mapping[str, Any]
) -> tuple[dict[str, Any], list[float]]:
    """One line of the table, and how many per cent fewer multiply-adds each task alone has."""
    tasks = tuple(subject.tasks)
    with torch.device("meta"):
        routed = network(TaskRoutedViT(tasks, **experts, **size), subject)
        token = network(TaskRoutedViT(tasks, routing="token", **experts, **size), subject)
        dense = network(ViT(**size), subject)
    whole = counted(routed, subject)
    ones = [counted(routed, subject, task) for task in tasks]
    row = {
        "one_m": statistics.fmean(ones) / 1e6,
        "whole_m": whole / 1e6,
        "fewer": 100 * (1 - statistics.fmean(ones) / whole),
        "bound": 100 * (1 - 1 / len(tasks)),
        "shared_m": (sum(ones) - whole) / (len(tasks) - 1) / 1e6,
        "dense_whole_m": counted(dense, subject) / 1e6,
        "token_m": statistics.fmean(counted(token, subject, task) for task in tasks) / 1e6,
    }
    return row, [100 * (1 - one / whole) for one in ones]


def counted(model: nn.Module, subject: Subject, task: str | None = None) -> int:
    """Multiply-adds of all tasks, or of one."""
    for layer in model.modules():
        if hasattr(layer, "active_tasks"):
            layer.active_tasks = task and (task,)  # type: ignore[assignment]
    image_BCHW = torch.empty(1, 3, subject.side, subject.side, device="meta")
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(image_BCHW)
    return flops.get_total_flops() // 2


def files(subject: Subject, size: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float]:
    """Sizes and times of the file of all tasks and of one, whose counts must be those of the row."""
    tasks, image_BCHW = tuple(subject.tasks), torch.randn(1, 3, subject.side, subject.side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "bench", "routed"))
        encoder = TaskRoutedViT(tasks, experts=EXPERTS, top_k=TOP_K, **size)
        model = network(encoder, subject)
    whole = exported(model, image_BCHW)
    ones = [keep_outputs(whole, [task]) for task in tasks]
    counts = [count_model(one) for one in ones]
    found = statistics.fmean(count.macs for count in counts) / 1e6, count_model(whole).macs / 1e6
    assert np.allclose(found, (row["one_m"], row["whole_m"])), (found, row)
    middle = sorted(range(len(tasks)), key=lambda number: counts[number].macs)[len(tasks) // 2]
    one_ms, whole_ms = timed([ones[middle], whole], image_BCHW.numpy())
    return {
        "one_mb": statistics.fmean(count.size_mb for count in counts),
        "whole_mb": count_model(whole).size_mb,
        "one_ms": one_ms,
        "whole_ms": whole_ms,
    }


def exported(model: nn.Module, image_BCHW: Tensor) -> onnx.ModelProto:
    """The file of a network."""
    with tempfile.TemporaryDirectory() as folder:
        return export_onnx(model, image_BCHW, Path(folder) / "model.onnx")


def timed(models: list[onnx.ModelProto], image_BCHW: np.ndarray, rounds: int = 50) -> list[float]:
    """Median milliseconds of each model, all measured in turn; the first rounds warm up."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(model.SerializeToString(), settings) for model in models]
    found: list[list[float]] = [[] for _ in models]
    for number in range(rounds + 5):
        for session, times in zip(sessions, found, strict=True):
            started = time.perf_counter()
            session.run(None, {"image": image_BCHW})
            if number >= 5:
                times.append(1e3 * (time.perf_counter() - started))
    return [statistics.median(times) for times in found]
