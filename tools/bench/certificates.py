"""Certificate truth: random latency budgets, searched and certified; a later measurement has to confirm them.

One elastic model and a real profile of this machine. Every budget bounds p50 or p95 at a random place between the
smallest and the largest network. NSGA-II looks for the most multiply-adds that the predictor lets through (weights are
untrained: multiply-adds stand for accuracy), the best few are measured, the best that keeps the limit with some room is
written to a file, and the file is certified. A certificate that is refused or missed sends the next smaller network.
The room is for the machine's own speed, which wanders by a few percent within minutes. When all
budgets are done, the certified files are measured again in another order, each in a fresh process with other seeds: a
certificate is confirmed when that measurement keeps the limit, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtnas.base.groups import Selection
from mtnas.base.progress import Progress
from mtnas.base.quantity import Counted, Measured, Predicted
from mtnas.base.seeds import derive_seed, generator
from mtnas.console import ConsoleProgress
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.measure.certify import Certificate, certify, gather
from mtnas.measure.config import MeasureConfig
from mtnas.measure.profile import Profile, build_profile
from mtnas.measure.protocol import measure
from mtnas.search.config import SearchConfig
from mtnas.search.loop import search
from mtnas.search.objectives import Constraint, Objective
from mtnas.search.problem import Problem
from mtnas.search.trial import Outcome
from mtnas.space.arch import Arch
from tools.bench.graph_cut import network
from tools.bench.record import Claim, Column, Options, Result

BUDGETS, QUICK_BUDGETS = 20, 3
TRIALS, POPULATION, ATTEMPTS = 120, 24, 3
#: networks measured at once, and how often, before a budget is given up
SHORTLIST, SHORTLISTS = 4, 4
#: part of the limit that a measured network has to leave
ROOM = 0.04
#: a later measurement is made again, so often at most, while its interval is wider than this share of its value
VISITS, WIDEST = 3, 0.10
HEIGHT, WIDTH = 96, 128
COLUMNS = (
    Column("budget", "budget"),
    Column("statistic", "bound on"),
    Column("limit_ms", "limit, ms", 4),
    Column("mmacs", "MMACs", 1),
    Column("predicted", "predicted, ms"),
    Column("certified", "certified, ms"),
    Column("margin_percent", "room, %", 1),
    Column("attempts", "attempts"),
    Column("given", "given"),
    Column("later", "later, ms"),
    Column("visits", "measured", 0),
    Column("confirmed", "confirmed"),
)


@dataclass(frozen=True)
class Wish:
    """A random budget."""

    number: int
    statistic: str
    limit_ms: float


def run(options: Options) -> Result:
    """Profile, search and certify every budget, then measure every certified file again."""
    torch.set_num_threads(1)
    progress = ConsoleProgress()
    image = torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    elastic = make_elastic(network("mobilenet", 32, (1, 2, 2), 32), image)
    elastic.calibrate_with(lambda: [image])
    graph = build_elastic_graph(elastic.model, elastic.example, elastic.groups)
    with tempfile.TemporaryDirectory(prefix="mtnas-bench-") as folder:
        bench = Bench.profiled(
            elastic, graph, Path(folder), MeasureConfig(samples=14 if options.quick else 40), progress
        )
        wishes = bench.wishes(QUICK_BUDGETS if options.quick else BUDGETS)
        rows = [bench.certified(wish) for wish in wishes]
        for index in generator(0, "certificates", "later").permutation(len(rows)):
            rows[index] |= bench.measured_later(wishes[index])
    given = [row for row in rows if row["given"]]
    claims = (
        shares("certificates given that were confirmed", given, "confirmed", BUDGETS - 1),
        shares("budgets that got a certificate", rows, "given", BUDGETS - 1),
    )
    error = bench.profile.predictor.held_out.to_json()
    confirmed = sum(bool(row["confirmed"]) for row in given)
    note = (
        f"A mobilenet with three heads, {WIDTH}x{HEIGHT}, untrained; limits between the smallest and the largest "
        f"network; {100 * ROOM:g} % room is left when choosing. A certificate is {bench.config.processes} fresh "
        f"processes; confirming is one more, later, made again (at most {VISITS - 1} times) while its interval is "
        f"wider than {100 * WIDEST:g} %. Given {len(given)} of {len(rows)}, refused "
        f"{sum(bool(row['refused']) for row in rows)}, confirmed {confirmed}."
    )
    details = {"held_out": error, "steered": bench.profile.trustworthy}
    return Result((0,), tuple(rows), COLUMNS, claims, note, details)


def shares(claim: str, rows: Sequence[dict[str, Any]], key: str, least: int) -> Claim:
    """A plain count against a plain bound: all cases there are, hence no interval."""
    found = sum(bool(row[key]) for row in rows)
    whole = len(rows) >= least
    return Claim(claim, f"at least {least}", float(found), None, found >= least if whole else None, len(rows))


class Bench:
    """One elastic model with its profile on this machine."""

    def __init__(self, elastic: ElasticModel, graph: ElasticGraph, profile: Profile, folder: Path) -> None:
        self.elastic, self.graph, self.profile, self.folder = elastic, graph, profile, folder
        self.config = MeasureConfig()
        self.progress: Progress | None = None

    @staticmethod
    def profiled(
        elastic: ElasticModel, graph: ElasticGraph, folder: Path, config: MeasureConfig, progress: Progress
    ) -> Bench:
        """Measure sub-networks and fit the predictor, as the stage does."""
        rng, space = generator(0, "certificates", "pool"), elastic.space
        archs = [space.largest, space.smallest, *(random_arch(elastic, rng) for _ in range(8 * config.samples))]
        pool = [elastic.selection(arch) for arch in archs]

        def cut(selection: Selection) -> bytes:
            return bytes(graph.cut(selection).SerializeToString())

        profile = build_profile(cut, graph.features, pool, config, folder / "device", progress=progress)
        return Bench(elastic, graph, profile, folder)

    def wishes(self, count: int) -> list[Wish]:
        """Random limits, well inside what the space reaches."""
        rng, found = generator(0, "certificates", "wishes"), []
        for number in range(count):
            statistic = str(rng.choice(["p50", "p95"]))
            ends = [self.profile.extreme(name).record.p50.value for name in ("smallest", "largest")]
            low, high = (self._ratio(statistic) * factor * end for factor, end in zip((1.05, 0.98), ends))
            found.append(Wish(number, statistic, float(low + rng.random() * (high - low))))
        return found

    def certified(self, wish: Wish) -> dict[str, Any]:
        """Search, measure the shortlist, write and certify; a row without the later measurement."""
        certificate, attempts, chosen = None, 0, None
        for chosen in self._affordable(wish):
            attempts += 1
            certificate = self._certificate(wish, chosen)
            if certificate.met or attempts == ATTEMPTS:
                break
        row = {"budget": wish.number, "statistic": wish.statistic, "limit_ms": wish.limit_ms, "attempts": attempts}
        if certificate is None or chosen is None:
            return {**row, "given": False, "refused": False, "text": "no network keeps it"}
        found = certificate.latency[wish.statistic]
        return {
            **row,
            "mmacs": self.graph.counts(chosen).macs / 1e6,
            "predicted": shown(self._predict(chosen, wish.statistic)),
            "certified": shown(found),
            "margin_percent": 100.0 * (wish.limit_ms / found.value - 1.0),
            "given": certificate.met,
            "refused": certificate.refused,
            "text": certificate.text,
            "aa_resolution_percent": certificate.aa_resolution_percent,
        }

    def measured_later(self, wish: Wish) -> dict[str, Any]:
        """One fresh process, another seed: the bounded statistic, and whether it keeps the limit.

        A measurement whose interval is wide, wherever it lies, is made again; the last one counts.
        """
        path = self._path(wish)
        if not path.exists():
            return {"later": None, "confirmed": None}
        for visit in range(1, VISITS + 1):
            config = replace(self.config, processes=1, seed=derive_seed(visit, "later", wish.number) % 2**31)
            found = gather(path, config, ConsoleProgress()).quantile(wish.statistic, config)
            if found.high - found.low <= WIDEST * found.value:
                break
        kept = found.value <= wish.limit_ms
        return {"later": shown(found), "later_ms": found.value, "visits": visit, "confirmed": kept}

    # --- searching ------------------------------------------------------------------------------------------------

    def _affordable(self, wish: Wish) -> Iterator[Selection]:
        """The largest networks that a measurement lets through, largest first, measured a few at a time."""
        bound = (1 - ROOM) * wish.limit_ms
        limit = Constraint("latency_ms", bound, text=f"<= {bound:.4f}", unit="ms")
        objectives = (Objective("macs", "MACs", higher_is_better=True), Objective("latency_ms", "ms", False))
        problem = Problem(self.elastic.space, objectives, (limit,))
        config = SearchConfig(trials=TRIALS, population=POPULATION)
        journal = self.folder / f"search-{wish.number}.jsonl"
        trials = search(problem, lambda arch: self._outcome(arch, wish), config, journal, seed=wish.number)
        kept = sorted((t for t in trials if t.feasible), key=lambda t: -t.outcome.objectives["macs"])
        for start in range(0, min(len(kept), SHORTLIST * SHORTLISTS), SHORTLIST):
            chosen = [self.elastic.selection(trial.arch) for trial in kept[start : start + SHORTLIST]]
            records = measure({str(k): self._cut(s) for k, s in enumerate(chosen)}, self.config)
            for k, selection in enumerate(chosen):
                if records[str(k)].statistic(wish.statistic).value <= bound:
                    yield selection

    def _outcome(self, arch: Arch, wish: Wish) -> Outcome:
        selection = self.elastic.selection(arch)
        macs = float(self.graph.counts(selection).macs)
        latency = self._predict(selection, wish.statistic)
        values = {"macs": macs, "latency_ms": latency.value}
        return Outcome(values, {"macs": Counted(macs, "MACs"), "latency_ms": latency}, {})

    def _predict(self, selection: Selection, statistic: str) -> Predicted:
        """The predictor knows medians; p95 stands in the profile's ratio to them, as in the search stage."""
        predicted = self.profile.predict(self.graph.features(selection)[None, :])[0]
        ratio = self._ratio(statistic)
        return replace(predicted, value=predicted.value * ratio, low=predicted.low * ratio, high=predicted.high * ratio)

    def _ratio(self, statistic: str) -> float:
        """The statistic against the median, typically."""
        records = [point.record for point in self.profile.points]
        return float(np.median([record.statistic(statistic).value / record.p50.value for record in records]))

    def _certificate(self, wish: Wish, chosen: Selection) -> Certificate:
        path = self._path(wish)
        path.write_bytes(self._cut(chosen))
        config = replace(self.config, statistic=wish.statistic, seed=wish.number)
        predicted = self._predict(chosen, wish.statistic)
        limits = {"latency_ms": wish.limit_ms}
        certificate = certify(path, limits, config, processes=config.processes, predicted=predicted)
        if not certificate.met:
            path.unlink()  # only certified files are measured again
        return certificate

    def _cut(self, selection: Selection) -> bytes:
        return bytes(self.graph.cut(selection).SerializeToString())

    def _path(self, wish: Wish) -> Path:
        return self.folder / f"certified-{wish.number}.onnx"


def random_arch(elastic: ElasticModel, rng: np.random.Generator) -> Arch:
    """Widths that lean one way, so that the pool reaches from small to large."""
    lean = rng.beta(0.8, 0.8)
    options = []
    for choice in elastic.space.choices:
        place = min(1.0, max(0.0, lean + 0.3 * float(rng.standard_normal())))
        options.append((choice.name, choice.options[round(place * (len(choice.options) - 1))]))
    return Arch(tuple(options))


def shown(found: Measured | Predicted) -> str:
    """Value and interval, as text."""
    return f"{found.value:.4f} ({found.low:.4f}–{found.high:.4f})"
