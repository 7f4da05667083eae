"""Forks, blocks and input sizes together, where a network leaves this process: as int8, over ssh, through a command."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import fork_zoo
import pytest
import zoo
from measure_subject import quick_config
from run_once import error, run

from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.features_file import describe
from mtnas.graph.forks import varied
from mtnas.measure.profile import build_profile
from mtnas.measure.reach.shipping import CutRequest, Shipping
from mtnas.quantize.check import int8_report
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.dialects import DIALECTS
from mtnas.quantize.ptq import float_nodes, quantize_onnx
from mtnas.quantize.timing import timing_copy
from mtnas.space.rules import SpaceRules

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench import loopback
from tools.bench.loopback import Loopback

SIZE = (16, 16)
TOY = str(Path(__file__).with_name("hook_toy.py"))


@dataclass(frozen=True)
class Subject:
    """One network with every kind of choice, and networks out of it that show each of them."""

    elastic: ElasticModel
    graph: ElasticGraph
    selections: tuple[Selection, ...]


@pytest.fixture(scope="module")
def subject() -> Subject:
    rules = SpaceRules(depth=True, operators=True, experts=True, resolution=(0.5, 1.0))
    elastic = make_elastic(fork_zoo.network("everything"), zoo.image(1), round_to=4, rules=rules)
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    assert {choice.kind for choice in elastic.space.choices} == {"width", "depth", "operator", "experts", "resolution"}
    assert elastic.inputs.sizes == (SIZE,)
    graph, rng = graph_of(elastic), generator(0, "forks")
    alone = [Selection.of({}, (), (None, SIZE)[i % 2], chosen) for i, chosen in enumerate(varied(graph.forks))]
    archs = [elastic.space.smallest, *(elastic.space.sample(rng) for _ in range(3))]
    found = [Selection.of({}), *alone, *(elastic.selection(arch) for arch in archs)]
    compact = (selection.compact(elastic.groups, elastic.open_forks) for selection in found)
    return Subject(elastic, graph, tuple(dict.fromkeys(compact)))


# --- int8 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_int8_of_every_option_at_every_size(subject: Subject, dialect: str) -> None:
    """Every head is close to float in the runtime that runs it; timing copies are built like the real thing."""
    runtime = "onnxruntime" if dialect == "tensorrt" else DIALECTS[dialect].runtime
    if runtime == "openvino":
        pytest.importorskip("openvino")
    config, image = QuantizeConfig(dialect=dialect), zoo.image(1, seed=3).numpy()
    batches = [zoo.image(4, seed=seed).numpy() for seed in range(2)]
    for selection in subject.selections[::2]:
        statistics = {name: tensor.numpy() for name, tensor in subject.elastic.statistics(selection).items()}
        model = subject.graph.cut(selection, statistics=statistics)
        expected, quantized = run("onnxruntime", model, image), quantize_onnx(model, batches, config)
        for task, output in run(runtime, quantized, image).items():
            assert error(output, expected[task]) < 0.25, (task, selection)
        copy = timing_copy(model, dialect)
        assert sorted(node.op_type for node in copy.graph.node) == sorted(n.op_type for n in quantized.graph.node)
        if dialect == "onnxruntime-x64":
            report = int8_report(quantized)
            report.require_int8(float_nodes(model, config))
            assert int8_report(copy).operators == report.operators


def test_features_of_an_int8_file_are_known(subject: Subject) -> None:
    """Work in 8 bit is the work that the table counts for the same network, whatever was chosen."""
    for selection in subject.selections[::3]:
        found = describe(timing_copy(subject.graph.cut(selection), "openvino"))
        table = dict(zip(subject.graph.feature_names, subject.graph.features(selection).tolist(), strict=True))
        assert found.get("total.int8/macs", 0.0) + found.get("total/macs", 0.0) == table["total/macs"]


# --- other machines ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    running = Loopback(tmp_path_factory.mktemp("sshd"))
    yield running
    running.stop()


@pytest.mark.skipif(
    loopback.find_sshd() is None or shutil.which("ssh") is None or not Path("/proc/self/stat").exists(),
    reason="needs ssh and sshd (apt-get install openssh-server) on Linux",
)
def test_a_profile_over_ssh_cuts_every_network_on_the_device(
    subject: Subject, server: Loopback, tmp_path: Path
) -> None:
    """Arrays of all options travel once, with the first networks; nothing of them travels again for another size."""
    board = str(server.device(tmp_path / "board", tmp_path / "far" / "cache"))
    config = replace(quick_config(samples=len(subject.selections)), device=board, max_rounds=6)
    shipping, sent = Shipping(subject.graph), dict[Selection, bytes]()

    class Sent(CutRequest):
        def recipe(self) -> bytes:
            return sent.setdefault(self.selection, super().recipe())

    profile = build_profile(
        lambda selection: Sent(shipping, selection),
        subject.graph.features,
        subject.selections,
        config,
        tmp_path / "profile",
        names=subject.graph.feature_names,
    )
    measured = {point.selection for point in profile.points}
    assert measured == set(subject.selections) <= set(sent)
    assert {selection.size for selection in measured} == {None, SIZE}
    for selection, recipe in sent.items():
        large = [t for t in subject.graph.cut(selection).graph.initializer if len(t.raw_data) >= 256]
        parts = json.loads(recipe.partition(b"\n")[0])["parts"]
        assert sum(isinstance(part, list) for part in parts) == len(large)


def test_a_command_gets_every_network_as_a_file(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pretended device takes as long as its file is large: so the files are those of the selections."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = [sys.executable, "-I", "-S", TOY, "plain", str(tmp_path), "{model}", "{out}"]
    hook = {"command": words, "timeout_s": 30.0, "repeats": 3, "runs": 2}
    described = f"name: pretended\nreach: hook\nruntime: toy\nthreads: 3\nhook: {json.dumps(hook)}\n"
    (tmp_path / "device.yaml").write_text(described, encoding="utf-8")
    settings = {"device": str(tmp_path), "runtime": "toy", "threads": 3, "together": 8}
    config = quick_config(samples=len(subject.selections), **settings)
    shipping = Shipping(subject.graph)
    folder = tmp_path / "profile"
    profile = build_profile(shipping.request, subject.graph.features, subject.selections, config, folder)
    assert {point.selection for point in profile.points} == set(subject.selections)
    for point in profile.points:
        size_kb = len(subject.graph.cut(point.selection).SerializeToString()) / 1e3
        assert point.record.p50.value == pytest.approx(size_kb, rel=0.15)
