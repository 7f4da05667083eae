"""Sub-networks measured per minute: cut from the elastic graph, against torch's exporter in the loop.

Both ways take random sub-networks of one elastic model to a measured latency, with the same protocol, the same anchor
and as many networks in the same rounds, as a profile is made. Ours cuts the ONNX file from the graph. Theirs extracts
the module and calls the exporter, as the documentation shows it; batch-norm statistics are given, so that it pays for
nothing that time does not need. The measuring itself costs the same both ways, and its share is told. The one export
behind the elastic graph is a column of its own. Each seed is another set of sub-networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.prove import random_selection
from mtnas.measure.config import MeasureConfig
from mtnas.measure.protocol import Bench
from tools.bench.graph_cut import export, networks
from tools.bench.record import Claim, Column, Options, Result

SEEDS, QUICK_SEEDS = (0, 1, 2, 3, 4), (0, 1, 2)
#: sub-networks of one seed, the same ones both ways
NETWORKS, QUICK_NETWORKS = 16, 4
HEIGHT, WIDTH = 64, 64
COLUMNS = (
    Column("network", "network"),
    Column("seed", "seed"),
    Column("once_s", "the graph, once, s", 1),
    Column("cut_s", "cut, s each", 3),
    Column("export_s", "export, s each", 2),
    Column("measure_s", "measuring, s each", 2),
    Column("cut_share", "cut, % of our time", 1),
    Column("export_share", "export, % of theirs", 1),
    Column("cut_rate", "ours a minute", 0),
    Column("export_rate", "theirs a minute", 1),
    Column("ratio", "ratio", 1),
)


def run(options: Options) -> Result:
    """Both ways for every network and seed."""
    torch.set_num_threads(1)
    image = torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    export(torch.nn.Conv2d(3, 3, 1), image)  # the first export pays for imports
    seeds = QUICK_SEEDS if options.quick else SEEDS[: options.seeds]
    count = QUICK_NETWORKS if options.quick else NETWORKS
    rows: list[dict[str, Any]] = []
    for name, build in networks(options.quick).items():
        elastic = make_elastic(build(), image)
        elastic.calibrate_with(lambda: [image])
        started = time.perf_counter()
        graph = build_elastic_graph(elastic.model, elastic.example, elastic.groups)
        once_s = time.perf_counter() - started
        race = Race(elastic, graph, image, MeasureConfig())
        for seed in seeds:
            rows.append({"network": name, "seed": seed, "once_s": round(once_s, 1), **race.run(seed, count)})
    by_network = {row["network"]: [r["ratio"] for r in rows if r["network"] == row["network"]] for row in rows}
    claims = [
        Claim.of(f"times more sub-networks a minute: {n}", found, "at least", 10) for n, found in by_network.items()
    ]
    claims.append(Claim.of("sub-networks a minute, cut and measured", [r["cut_rate"] for r in rows], "at least", 60))
    note = (
        f"{WIDTH}x{HEIGHT} images, one thread, the default protocol, batches of {count} networks share rounds, as when "
        "a profile is made. A seed is one such batch of random sub-networks, the same both ways."
    )
    return Result(seeds, tuple(rows), COLUMNS, tuple(claims), note)


class Race:
    """One elastic model, both ways."""

    def __init__(self, elastic: ElasticModel, graph: ElasticGraph, image: Tensor, config: MeasureConfig) -> None:
        self.elastic, self.graph, self.image, self.config = elastic, graph, image, config
        self.statistics: dict[str, dict[str, Tensor]] = {}

    def run(self, seed: int, count: int) -> dict[str, Any]:
        """Seconds a network, both ways; in turns of which the first is ours for even seeds."""
        rng = generator(seed, "measure_rate")
        chosen = [random_selection(self.graph, rng) for _ in range(count)]
        self.statistics = {selection.id: self._statistics(selection) for selection in chosen}
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "cut": lambda: self._way(chosen, self._cut),
            "export": lambda: self._way(chosen, self._export),
        }
        found = {name: ways[name]() for name in (ways if seed % 2 == 0 else reversed(ways))}
        (cut_s, measure_s), (export_s, measure_too_s) = found["cut"], found["export"]
        ours, theirs = cut_s + measure_s, export_s + measure_too_s
        return {
            "cut_s": round(cut_s, 4),
            "export_s": round(export_s, 3),
            "measure_s": round(measure_s, 3),
            "measure_exported_s": round(measure_too_s, 3),
            "cut_share": round(100 * cut_s / ours, 2),
            "export_share": round(100 * export_s / theirs, 2),
            "cut_rate": round(60 / ours, 2),
            "export_rate": round(60 / theirs, 2),
            "ratio": round(theirs / ours, 2),
        }

    def _way(self, chosen: Sequence[Selection], make: Callable[[Selection], bytes]) -> tuple[float, float]:
        """Seconds a network for making its file and for measuring it."""
        models: dict[str, bytes] = {}
        began = time.perf_counter()
        for selection in chosen:
            models[selection.id] = make(selection)
        made = time.perf_counter()
        with Bench(self.config) as bench:
            for _record in bench.measure(models):
                pass
        return (made - began) / len(chosen), (time.perf_counter() - made) / len(chosen)

    def _cut(self, selection: Selection) -> bytes:
        return bytes(self.graph.cut(selection).SerializeToString())

    def _export(self, selection: Selection) -> bytes:
        small = self.elastic.extract(selection, statistics=self.statistics[selection.id])
        return export(small, self.image)

    def _statistics(self, selection: Selection) -> dict[str, Tensor]:
        """Statistics of the right sizes: time does not depend on their values."""
        return {
            name: torch.ones(array.dims[0])
            for array in self.graph.cut(selection, fold_bn=False).graph.initializer
            if (name := array.name).endswith(("running_mean", "running_var"))
        }
