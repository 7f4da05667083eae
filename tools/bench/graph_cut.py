"""Cutting a sub-network from the elastic graph, against exporting the same sub-network with torch's exporter.

Both give a finished ONNX file in memory, weights and batch-norm statistics included. The exporter is warmed up first,
and is called as a user would call it. Each seed is another random selection.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from mtnas.base.groups import Selection
from mtnas.base.seeds import derive_seed, generator
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.encoders.make import make_encoder
from mtnas.graph.build import quiet
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.prove import random_selection, relative_error, run_model
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet
from tools.bench.record import Claim, Column, Options, Result

SEEDS = (0, 1, 2, 3, 4)
REPEATS = 7
COLUMNS = (
    Column("network", "network"),
    Column("seed", "seed"),
    Column("full_params", "full parameters", 0),
    Column("cut_params", "cut parameters", 0),
    Column("cut_ms", "cut, ms", 1),
    Column("counts_ms", "counts, ms", 2),
    Column("export_ms", "torch export, ms", 0),
    Column("ratio", "ratio", 0),
    Column("error", "relative error"),
)


def network(encoder: str, width: int, depth: tuple[int, ...], head_width: int) -> nn.Module:
    """Two dense heads and one image-level head on an encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "bench", encoder))
        body = make_encoder(encoder, width=width, depth=depth)
        channels = [level.channels for level in body.levels]
        heads = {
            "segmentation": make_head("fpn", level_channels=channels, channels=13, width=head_width),
            "depth": make_head("fpn", level_channels=channels, channels=1, width=head_width),
            "presence": make_head("pooled", level_channels=channels, channels=13, width=head_width),
        }
        return MultiTaskNet(body, heads).eval()


def networks(quick: bool) -> dict[str, Callable[[], nn.Module]]:
    small: dict[str, Callable[[], nn.Module]] = {
        "mobilenet, small": lambda: network("mobilenet", 16, (1, 1, 2), 32),
    }
    if quick:
        return small
    return {**small, "resnet, 3 M": lambda: network("resnet", 64, (2, 2, 2, 1), 96)}


def run(options: Options) -> Result:
    """Measure both ways for every network and seed."""
    torch.set_num_threads(1)
    image = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    export(nn.Conv2d(3, 3, 1), image)  # the first export pays for imports
    rows: list[dict[str, Any]] = []
    seeds = SEEDS[:3] if options.quick else SEEDS
    for name, build in networks(options.quick).items():
        elastic = make_elastic(build(), image)
        elastic.calibrate_with(lambda: [image])
        graph = graph_of(elastic)
        for seed in seeds:
            selection = random_selection(graph, generator(seed, "graph_cut"))
            rows.append({"network": name, "seed": seed, **compare(elastic, graph, selection, image)})
    largest = [row for row in rows if row["network"] == rows[-1]["network"]]
    by_network = {row["network"]: [r["ratio"] for r in rows if r["network"] == row["network"]] for row in rows}
    claims = (
        *(Claim.of(f"times faster than exporting: {n}", ratios, "at least", 30) for n, ratios in by_network.items()),
        Claim.of("cutting the largest network here, ms", [row["cut_ms"] for row in largest], "at most", 100),
        Claim.of("counting a selection, ms", [row["counts_ms"] for row in rows], "at most", 1),
        Claim.of("largest relative error of any output", [row["error"] for row in rows], "at most", 1e-4),
    )
    note = "Times are medians on one thread; a seed is one random selection."
    return Result(seeds, tuple(rows), COLUMNS, claims, note)


def compare(elastic: ElasticModel, graph: ElasticGraph, selection: Selection, image: Tensor) -> dict[str, Any]:
    """One selection, both ways."""
    tensors = elastic.statistics(selection)
    averages = {name: tensor.numpy() for name, tensor in tensors.items()}
    small = elastic.extract(selection, statistics=tensors)
    cut_s = [timed(lambda: graph.cut(selection, statistics=averages).SerializeToString()) for _ in range(REPEATS)]
    counts_s = [timed(lambda: graph.counts(selection)) for _ in range(REPEATS)]
    started = time.perf_counter()
    exported = export(small, image)
    export_s = time.perf_counter() - started
    found, expected = run_model(graph.cut(selection, statistics=averages), image.numpy()), run_exported(exported, image)
    cut_ms = 1e3 * statistics.median(cut_s)
    return {
        "full_params": graph.counts(Selection.of({})).params,
        "cut_params": graph.counts(selection).params,
        "cut_ms": round(cut_ms, 3),
        "counts_ms": round(1e3 * statistics.median(counts_s), 4),
        "export_ms": round(1e3 * export_s, 1),
        "ratio": round(1e3 * export_s / cut_ms, 1),
        "error": float(f"{max(relative_error(found[name], expected[name]) for name in expected):.1e}"),
    }


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def export(model: nn.Module, image: Tensor) -> bytes:
    """torch's exporter as the documentation shows it, to one file in memory."""
    names = list(outputs) if isinstance(outputs := model(image), dict) else ["y"]
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            model, (image,), dynamo=True, input_names=["image"], output_names=names, opset_version=20, verbose=False
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def run_exported(data: bytes, image: Tensor) -> dict[str, np.ndarray]:
    return run_model(onnx.load_from_string(data), image.numpy())
