"""Measuring through ssh while the line is cut and the runner is killed: nothing lost, nothing twice, same predictor.

An ssh server on this machine stands for a remote device. The same sub-networks are measured three times: here, here
again, and through ssh with two cut connections and one killed runner. Each series gets a predictor of its own, fitted
on latencies relative to the anchor; how much two of them disagree on unseen networks says whether ssh adds error beyond
what measuring twice here does.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtnas.base.errors import DeviceMissing
from mtnas.base.groups import Selection
from mtnas.base.progress import Silent
from mtnas.base.seeds import derive_seed, generator
from mtnas.elastic.model import make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.prove import random_selection
from mtnas.measure.config import MeasureConfig
from mtnas.measure.predictor import fit
from mtnas.measure.protocol import Bench
from mtnas.measure.reach.base import Model
from mtnas.measure.reach.shipping import Shipping
from tools.bench.graph_cut import network
from tools.bench.loopback import Loopback, count_latencies, find_sshd, latencies, runner_pid
from tools.bench.record import Claim, Column, Options, Result

SEEDS = (0, 1, 2, 3, 4)
UNSEEN = 300
COLUMNS = (
    Column("seed", "seed"),
    Column("archs", "networks"),
    Column("cuts", "connections cut"),
    Column("kills", "runners killed"),
    Column("lost", "lost"),
    Column("twice", "measured twice"),
    Column("seconds_here", "here, s", 0),
    Column("seconds_ssh", "through ssh, s", 0),
    Column("error_here", "error here, %", 2),
    Column("error_ssh", "error through ssh, %", 2),
    Column("apart_here", "here against here, %", 2),
    Column("apart_ssh", "ssh against here, %", 2),
)


@dataclass
class Series:
    """One pass over all networks: latency relative to the anchor, by name."""

    relative: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    on_disk: Counter[str] = field(default_factory=Counter)


class Trouble(threading.Thread):
    """Cuts the connection after a quarter and a half of the networks, kills the runner after three quarters."""

    def __init__(self, server: Loopback, remote: Path, count: int) -> None:
        super().__init__(daemon=True)
        self._server, self._remote, self._count = server, remote, count
        self.cuts = self.kills = 0

    def run(self) -> None:
        self._wait(0.25)
        self._cut()
        self._wait(0.5)
        self._cut()
        self._wait(0.75)
        os.kill(runner_pid(self._remote), signal.SIGKILL)
        self.kills += 1

    def _wait(self, share: float) -> None:
        while count_latencies(self._remote) < share * self._count:
            time.sleep(0.3)

    def _cut(self) -> None:
        while not self._server.cut_connections():  # not connected again yet
            time.sleep(0.05)
        self.cuts += 1


def run(options: Options) -> Result:
    """Measure, fit, compare, for every seed."""
    if find_sshd() is None:
        cure = "install an ssh server: apt-get install openssh-server"
        raise DeviceMissing("the program sshd", received="none on PATH", where="ssh_loopback", cure=cure)
    torch.set_num_threads(1)
    image = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    elastic = make_elastic(network("mobilenet", 16, (1, 1, 2), 32), image)
    elastic.calibrate_with(lambda: [image])
    graph = build_elastic_graph(elastic.model, elastic.example, elastic.groups)
    count = 24 if options.quick else 100
    seeds = SEEDS[: options.seeds or len(SEEDS)]
    rows = [row(graph, seed, count, quick=options.quick) for seed in seeds]
    note = f"{count} random sub-networks of a small mobilenet with three heads; ssh server on the same machine"
    return Result(seeds, tuple(rows), COLUMNS, claims(rows, count), note)


def claims(rows: Sequence[Mapping[str, Any]], count: int) -> tuple[Claim, ...]:
    more = [row["apart_ssh"] - row["apart_here"] for row in rows]
    error = [row["error_ssh"] - row["error_here"] for row in rows]
    return (
        Claim.of(f"networks lost of {count}, two cuts and a killed runner", [r["lost"] for r in rows], "at most", 0),
        Claim.of("networks measured twice", [r["twice"] for r in rows], "at most", 0),
        Claim.of("predictors: disagreement ssh/here beyond here/here, percent points", more, "at most", 1),
        Claim.of("held-out median error through ssh beyond that here, percent points", error, "at most", 1),
    )


def row(graph: ElasticGraph, seed: int, count: int, *, quick: bool) -> dict[str, Any]:
    """One seed: other networks, other order of the three series."""
    rng = generator(seed, "bench", "ssh_loopback")
    chosen: dict[str, Selection] = {}
    while len(chosen) < count:
        selection = random_selection(graph, rng)
        chosen[selection.id] = selection
    unseen_NF = np.asarray([graph.features(random_selection(graph, rng)) for _ in range(UNSEEN)])
    config = MeasureConfig(seed=seed, max_rounds=16 if quick else 40)
    found: dict[str, Series] = {}
    trouble = None
    for name in rng.permutation(["here", "again", "ssh"]):
        if name == "ssh":
            found["ssh"], trouble = through_ssh(graph, chosen, config)
        else:
            found[str(name)] = here(graph, chosen, config)
    assert trouble is not None
    return compared(graph, chosen, unseen_NF, found, trouble, seed)


def here(graph: ElasticGraph, chosen: Mapping[str, Selection], config: MeasureConfig) -> Series:
    """In this process, in groups that share rounds."""
    series, names, started = Series(), list(chosen), time.perf_counter()
    shipping = Shipping(graph)
    with Bench(config) as bench:
        for start in range(0, len(names), config.together):
            group = {name: shipping.make(chosen[name]) for name in names[start : start + config.together]}
            series.relative |= {record.name: record.relative.value for record in bench.measure(group)}
    series.seconds = time.perf_counter() - started
    return series


def through_ssh(graph: ElasticGraph, chosen: Mapping[str, Selection], config: MeasureConfig) -> tuple[Series, Trouble]:
    """On the device that this machine plays, with trouble on the way."""
    folder = Path(tempfile.mkdtemp(prefix="mtnas-bench-"))
    server = Loopback(folder)
    remote, series, shipping = folder / "device", Series(), Shipping(graph)
    trouble = Trouble(server, remote, len(chosen))
    try:
        device = server.device(folder / "board", remote)
        models: dict[str, Model] = {name: shipping.request(selection) for name, selection in chosen.items()}
        started = time.perf_counter()
        with Bench(replace(config, device=str(device)), progress=Silent()) as bench:
            trouble.start()
            for record in bench.measure(models):
                series.relative[record.name] = record.relative.value
            series.on_disk = Counter(record["name"] for record in latencies(remote))
        series.seconds = time.perf_counter() - started
        trouble.join(30.0)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return series, trouble


def compared(
    graph: ElasticGraph,
    chosen: Mapping[str, Selection],
    unseen_NF: np.ndarray,
    found: Mapping[str, Series],
    trouble: Trouble,
    seed: int,
) -> dict[str, Any]:
    """What was lost or done twice, and how far the predictors are apart."""
    features_NF = np.asarray([graph.features(selection) for selection in chosen.values()])
    away = list(range(0, len(chosen), 4))
    fitted = {}
    for name, series in found.items():
        relative_N = np.asarray([series.relative.get(key, np.nan) for key in chosen])
        measured = np.isfinite(relative_N)
        left = [int(np.flatnonzero(np.flatnonzero(measured) == i)[0]) for i in away if measured[i]]
        fitted[name] = fit(features_NF[measured], relative_N[measured], derive_seed(seed, "fit") % 2**32, held_out=left)
    values = {name: predictor.values(unseen_NF) for name, predictor in fitted.items()}
    ssh = found["ssh"]
    return {
        "seed": seed,
        "archs": len(chosen),
        "cuts": trouble.cuts,
        "kills": trouble.kills,
        "lost": len(set(chosen) - set(ssh.relative)),
        "twice": sum(times - 1 for times in ssh.on_disk.values()),
        "seconds_here": found["here"].seconds,
        "seconds_ssh": ssh.seconds,
        "error_here": fitted["here"].held_out.median_error_percent,
        "error_ssh": fitted["ssh"].held_out.median_error_percent,
        "apart_here": apart_percent(values["again"], values["here"]),
        "apart_ssh": apart_percent(values["ssh"], values["here"]),
    }


def apart_percent(first_N: np.ndarray, second_N: np.ndarray) -> float:
    """Median relative distance of two predictors on the same networks."""
    return 100.0 * float(np.median(np.abs(first_N / second_N - 1.0)))
