"""One cell of the predictor benchmark: a space on a runtime in a precision, profiled, and checked on fresh networks.

Everything measured lies in the cell's folder, so that a stopped benchmark goes on and predictors can be fitted again
without measuring. Test networks are measured like all others, but twice: before the profile, and after it in other
company. Where the two visits disagree a third one decides.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from mtnas.base.groups import Selection
from mtnas.base.journal import Journal
from mtnas.base.progress import Progress
from mtnas.base.seeds import derive_seed, generator
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.features_file import describe, stack
from mtnas.measure.config import MeasureConfig
from mtnas.measure.profile import Profile, build_profile
from mtnas.measure.protocol import Bench
from mtnas.quantize.timing import timing_copy
from mtnas.space.arch import Arch
from mtnas.space.space import Space
from tools.bench import predictor_spaces as spaces

DIALECTS = {"onnxruntime": "onnxruntime-x64", "openvino": "openvino"}
DEVICES = {"onnxruntime": "local-ort", "openvino": "local-openvino"}
#: The space that also chooses precision by branch, and input size.
MIXED = "mixed"
SIZES = ((96, 128), (64, 96), (128, 160))
#: Choices that are no channel groups travel inside a selection under names that no layer has.
#: Test networks whose two visits differ by more than this (log ratio) are visited a third time.
APART = 0.05
PRECISION, SIZE = "~float branches", "~input size"


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Args:
        space: a row of `SPACES`, or `mixed`.
        runtime: a row of the runtimes table.
        precision: float32, int8, or `by branch` in the mixed space.
        quick: fewer networks.
    """

    space: str
    runtime: str
    precision: str
    quick: bool

    @property
    def name(self) -> str:
        parts = (self.space, self.runtime, self.precision, "quick" if self.quick else "")
        return "-".join(part.replace(" + ", "_").replace(" ", "_") for part in parts if part)

    @property
    def config(self) -> MeasureConfig:
        """At most 150 networks or five minutes, side by side in batches of 25, one thread."""
        return MeasureConfig(
            device=DEVICES[self.runtime],
            runtime=self.runtime,
            threads=1,
            samples=40 if self.quick else 150,
            batch=25,
            holdout=0.1,
            target_percent=0.0,
            time_limit_s=300.0,
            rounds=12,
            max_rounds=24,
            round_runs=4,
            warmup_ms=30.0,
            seed=derive_seed(0, "predictor", self.name) % 2**31,
        )

    @property
    def tests(self) -> int:
        return 24 if self.quick else 100

    @property
    def pool(self) -> int:
        return (300 if self.space == MIXED else 1200) // (3 if self.quick else 1)


@dataclass
class Subject:
    """The networks of a cell: archs as selections, their files and their features."""

    cell: Cell
    graph: ElasticGraph
    space: Space
    elastic: ElasticModel

    @staticmethod
    def of(cell: Cell) -> Subject:
        model = spaces.build("mobilenet + fpn" if cell.space == MIXED else cell.space)
        elastic = make_elastic(model, spaces.image())
        return Subject(
            cell, build_elastic_graph(elastic.model, elastic.example, elastic.groups), elastic.space, elastic
        )

    @cached_property
    def pool(self) -> list[Selection]:
        rng = generator(self.cell.config.seed, "pool")
        ends = [self._mixed(self.elastic.selection(a), None) for a in (self.space.largest, self.space.smallest)]
        return [*ends, *(self._mixed(self._leaning(rng), rng) for _ in range(self.cell.pool))]

    @cached_property
    def tests(self) -> list[Selection]:
        """Half leaning to small or to large as the pool, half with every option equally likely; none of the pool."""
        rng, known, found = generator(self.cell.config.seed, "tests"), set(self.pool), []
        while len(found) < self.cell.tests:
            uniform = len(found) % 2 == 1
            plain = self.elastic.selection(self.space.sample(rng)) if uniform else self._leaning(rng)
            selection = self._mixed(plain, rng)
            if selection not in known:
                known.add(selection)
                found.append(selection)
        return found

    def _leaning(self, rng: np.random.Generator) -> Selection:
        lean = rng.beta(0.8, 0.8)
        steps = [float(np.clip(lean + 0.3 * rng.standard_normal(), 0, 1)) for _ in self.space.choices]
        options = [(c.name, c.options[round(s * (len(c.options) - 1))]) for c, s in zip(self.space.choices, steps)]
        return self.elastic.selection(Arch(tuple(options)))

    def _mixed(self, plain: Selection, rng: np.random.Generator | None) -> Selection:
        """With a precision for every branch and an input size, where the cell's space has such choices."""
        if self.cell.space != MIXED:
            return plain
        branches = range(len(spaces.TASKS) + 1)
        kept = [0] if rng is None else [0, *(b + 1 for b in branches if rng.random() < 0.5)]
        size = 0 if rng is None else int(rng.integers(len(SIZES)))
        return Selection.of({**plain.as_dict, PRECISION: kept, SIZE: [size]})

    def cut(self, selection: Selection) -> bytes:
        return self.model(selection).SerializeToString()

    def model(self, selection: Selection) -> onnx.ModelProto:
        """The network of a selection in the cell's precision."""
        if self.cell.space != MIXED:
            plain = self.graph.cut(selection)
            return plain if self.cell.precision == "float32" else timing_copy(plain, DIALECTS[self.cell.runtime])
        chosen = dict(selection.as_dict)
        kept, size = chosen.pop(PRECISION), SIZES[chosen.pop(SIZE)[0]]
        plain = self.graph.cut(Selection.of(chosen), input_size=size)
        branches = ("shared", *spaces.TASKS)
        float_branches = [branches[b - 1] for b in kept if b > 0]
        if len(float_branches) == len(branches):
            return plain
        return timing_copy(plain, DIALECTS[self.cell.runtime], float_branches=float_branches)

    @cached_property
    def described(self) -> tuple[tuple[str, ...], dict[Selection, np.ndarray]]:
        """Names and features of pool and tests, read off the files where the table does not know all choices."""
        everything = [*self.pool, *self.tests]
        if self.cell.space != MIXED:
            return self.graph.feature_names, {s: self.graph.features(s) for s in everything}
        names, rows_NF = stack([describe(self.model(selection)) for selection in everything])
        return names, dict(zip(everything, rows_NF, strict=True))

    def features(self, selection: Selection) -> np.ndarray:
        return self.described[1][selection]


@dataclass(frozen=True)
class Measurements:
    """What a cell has measured.

    Args:
        profile: of the pool.
        seconds: that the profile took.
        test_ms: of the test networks, at the anchor's usual speed, in their order: the median of their visits.
        apart_N: how far the first two visits lie apart, as a logarithm.
        torn: how many networks had a third visit.
    """

    profile: Profile
    seconds: float
    test_ms: np.ndarray
    apart_N: np.ndarray
    torn: int


def measure_cell(subject: Subject, folder: Path, progress: Progress) -> Measurements:
    """Profile and tests; what is there already is not measured again."""
    config, tests = subject.cell.config, subject.tests
    journal = Journal(folder / "tests.jsonl")
    measure_tests(subject, tests, "first", journal, progress)
    started = time.monotonic()
    names = subject.described[0]
    profile = build_profile(
        subject.cut, subject.features, subject.pool, config, folder / "device", names=names, progress=progress
    )
    seconds = _remembered(folder / "seconds.json", time.monotonic() - started)
    shuffled = [tests[i] for i in generator(config.seed, "second visit").permutation(len(tests))]
    measure_tests(subject, shuffled, "second", journal, progress)
    usual_ms = float(np.median([point.record.anchor_ms for point in profile.points]))

    def visits(visit: str) -> np.ndarray:
        """Latency of every test network in a visit, at the anchor's usual speed; NaN where there was none."""
        found = {record["id"]: record for record in journal.records() if record["visit"] == visit}
        ratios = [found[s.id]["ms"] / found[s.id]["anchor_ms"] if s.id in found else np.nan for s in tests]
        return usual_ms * np.asarray(ratios)

    first, second = visits("first"), visits("second")
    torn = [s for s, gap in zip(tests, np.abs(np.log(second / first))) if gap > APART]
    measure_tests(subject, torn, "third", journal, progress)
    truth = np.nanmedian(np.stack([first, second, visits("third")]), axis=0)
    return Measurements(profile, seconds, truth, np.abs(np.log(second / first)), len(torn))


def _remembered(path: Path, seconds: float) -> float:
    """Of the first call that finished; a later one only reads."""
    if not path.exists():
        path.write_text(json.dumps(seconds))
    return float(json.loads(path.read_text()))


def measure_tests(
    subject: Subject, selections: Sequence[Selection], visit: str, journal: Journal, progress: Progress
) -> None:
    """Test networks in groups as large as the profile's batches."""
    done = {(record["id"], record["visit"]) for record in journal.records()}
    with Bench(subject.cell.config, progress=progress) as bench:
        for group in _groups([s for s in selections if (s.id, visit) not in done], subject.cell.config.batch):
            for record in bench.measure({s.id: subject.cut(s) for s in group}):
                entry = {"id": record.name, "visit": visit, "ms": record.p50.value, "anchor_ms": record.anchor_ms}
                journal.append(entry)


def _groups(items: Sequence[Selection], size: int) -> Iterator[Sequence[Selection]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
