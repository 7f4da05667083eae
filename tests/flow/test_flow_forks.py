"""A whole run of a user's network with a `OneOf` and a `SumOf` that may run at half its input size.

Chosen in the search, pruned, delivered and reported; killed in every stage, the same command comes to the same result.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
import torch
from tiny import Done, FinishedRun, lines, records, stages_with

from mtnas.base.files import file_hash
from mtnas.base.groups import Selection
from mtnas.graph.prove import relative_error, run_model
from mtnas.job.read import read_job
from mtnas.quantize.ptq import quantize_onnx
from mtnas.space.arch import Arch
from mtnas.stages.context import RunContext
from mtnas.stages.network import Network

NETWORK = """\
import mtnas
from torch import nn


def conv(c_in, c_out, kernel, **settings):
    layer = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False, **settings)
    return nn.Sequential(layer, nn.BatchNorm2d(c_out), nn.ReLU())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv(3, 16, 3)
        self.operator = mtnas.OneOf({"k3": conv(16, 16, 3), "k5": conv(16, 16, 5), "none": nn.Identity()})
        self.mix = mtnas.SumOf([conv(16, 16, 3), conv(16, 16, 1), conv(16, 16, 1)])
        self.segmentation, self.depth = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 1, 1)

    def forward(self, image):
        x = self.mix(self.operator(self.stem(image)))
        return {"segmentation": self.segmentation(x), "depth": self.depth(x)}


def make():
    return Net()
"""
JOB = (
    tiny.JOB.replace("model: {width: 16, blocks: [1, 1], output_stride: 8, head_width: 16, head_convs: 1}", "MODEL")
    .replace("MODEL", "model: {factory: 'forked_net:make'}")
    .replace("epochs: 3", "epochs: 1")
    .replace("macs: 80%", "macs: 60%")
    .replace("max_steps: 3", "max_steps: 2")
)
RULES = "shared: [0.5, 1.0]\ndecoder: [1.0]\noperators: true\nexperts: true\nresolution: [0.5, 1.0]\n"
SIZES = {"16x16", "32x32"}
#: where to kill: a journal of the stage and the lines it must have by then, or the stage itself
MOMENTS: dict[str, tuple[str, int]] = {
    "train": ("2-train/curves.jsonl", 2),
    "profile": ("3-profile/device/measurements.jsonl", 4),
    "search": ("4-search/trials.jsonl", 4),
    "prune": ("", 0),
    "quantize": ("", 0),
    "export": ("", 0),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FinishedRun]:
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("forks")
    job, rules = folder / "job.yaml", folder / "rules.yaml"
    (folder / "forked_net.py").write_text(NETWORK, encoding="utf-8")
    rules.write_text(RULES, encoding="utf-8")
    job.write_text(JOB.replace("space: {", f"space: {{rules: {rules}, "), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        patch.syspath_prepend(str(folder))
        done = tiny.finish(tiny.start("run", job, "--out", folder / "run", "--json", scratch=folder), timeout_s=540.0)
        assert done.code == 0, done.err
        yield FinishedRun(job, folder / "run", done)


@pytest.fixture(scope="module")
def killed(whole: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, killed once in every stage after the first."""
    folder = tmp_path_factory.mktemp("killed")
    run = whole.copy(folder / "run", upto="space")
    for stage, (journal, count) in MOMENTS.items():
        ready = reached(run, stage, journal, count)
        done = tiny.stop_when(again(whole, run, folder), ready, signal.SIGKILL)
        assert done.code == -signal.SIGKILL and stages_with(run, "start")[-1] == stage
        assert stage not in stages_with(run, "end") and not (run / "DONE").exists()
    last = tiny.finish(again(whole, run, folder), timeout_s=540.0)
    assert last.code == 0, last.err
    return run


def again(whole: FinishedRun, run: Path, scratch: Path) -> Any:
    return tiny.start("run", whole.job, "--out", run, "--json", scratch=scratch)


def reached(run: Path, stage: str, journal: str, count: int) -> Callable[[], bool]:
    if journal:
        return lambda: lines(run / journal) >= count
    return lambda: stage in stages_with(run, "start")


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


def trials(run: Path) -> list[dict[str, Any]]:
    return [row for row in records(run / "4-search" / "trials.jsonl") if "arch" in row]


def convolutions(arch: dict[str, Any]) -> int:
    """Of the network without what was not chosen: stem, operator, experts, two heads."""
    return int(1 + (arch["operator/operator"] != "none") + arch["mix/experts"] + 2)


@pytest.mark.slow
def test_a_run_chooses_operators_experts_and_sizes(whole: FinishedRun) -> None:
    run = whole.path
    space, search = read(run, "1-space/space.json"), read(run, "4-search/search.json")
    assert {fork["name"]: fork["options"] for fork in space["forks"]} == {
        "operator": ["none", "k3", "k5"],
        "mix": ["1", "2", "3"],
    }
    assert {row["size"] for row in space["input_sizes"]} == SIZES == {row["arch"]["input"] for row in trials(run)}
    assert len({(row["arch"]["operator/operator"], row["arch"]["mix/experts"]) for row in trials(run)}) >= 4
    arch, chosen = search["chosen"]["arch"], search["chosen"]["chosen"]
    assert chosen == {"operator": arch["operator/operator"], "mix": str(arch["mix/experts"])}
    assert search["chosen"]["costs"]["macs"]["value"] <= 0.6 * space["largest"]["macs"]
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    for words in ("Operators and experts, before and after", "All 2 forks", "Input sizes"):
        assert words in page


def test_what_is_delivered_is_what_was_chosen(whole: FinishedRun) -> None:
    """Pruning and quantizing change widths and numbers: the file computes what the pruned module does."""
    run = whole.path
    arch = read(run, "4-search/search.json")["chosen"]["arch"]
    delivered = Selection.from_json(read(run, "5-prune/delivered.json")["selection"])
    context = RunContext(read_job(run / "job.resolved.yaml"), run)
    chosen = context.elastic.selection(Arch.from_json(arch))
    assert delivered.chosen == chosen.chosen and delivered.size == chosen.size
    for model in (context.graph.cut(delivered), onnx.load_model(str(run / "7-export" / "model.onnx"))):
        assert sum(node.op_type == "Conv" for node in model.graph.node) == convolutions(arch)
    image_BCHW, _ = context.split("report").batch(np.arange(1))
    network = Network.load(run / "5-prune", "delivered")
    with torch.no_grad():
        expected = network.module(context.trained)(image_BCHW)
    found = run_model(onnx.load_model(str(run / "6-quantize" / "float.onnx")), image_BCHW.numpy())
    assert max(relative_error(found[task], output.numpy()) for task, output in expected.items()) <= 1e-4
    assert read(run, "8-verify/verify.json")["passed"] and read(run, "9-certify/certificate.json")["met"]
    assert read(run, "6-quantize/quantize.json")["int8_nodes"] >= convolutions(arch)


@pytest.mark.parametrize("share", ["70%", "25%"])
def test_another_trade_off_of_the_run(whole: FinishedRun, tmp_path: Path, share: str) -> None:
    """`configure` keeps a limit that asks for the smaller size, and writes what torch computes."""
    run, target = whole.copy(tmp_path / "run"), tmp_path / "configured.onnx"
    done = asked(run, "--budget", f"macs={share}", "--prefer", "depth=3", "--export", target, "--json")
    context = RunContext(read_job(run / "job.resolved.yaml"), run)
    full = context.graph.counts(Selection.of({})).macs
    arch = done.result["arch"]
    assert done.result["costs"]["macs"]["value"] <= float(share.rstrip("%")) / 100 * full
    model, image = onnx.load_model(str(target)), torch.randn(1, 3, 32, 32)
    assert sum(node.op_type == "Conv" for node in model.graph.node) == convolutions(arch)
    with torch.no_grad():
        expected = context.trained.extract(Arch.from_json(arch))(image)
    found = run_model(model, image.numpy())
    assert max(relative_error(found[task], output.numpy()) for task, output in expected.items()) <= 1e-4


def asked(run: Path, *words: str | Path) -> Done:
    done = tiny.mtnas("configure", run, *words)
    assert done.code == 0, done.err
    return done


# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_in_every_stage_the_run_is_the_same(whole: FinishedRun, killed: Path) -> None:
    assert (killed / "DONE").exists() and not list(killed.glob("*superseded*"))
    assert read(killed, "9-certify/certificate.json")["met"] and not list(killed.rglob("*.tmp"))
    starts, ends = stages_with(killed, "start"), stages_with(killed, "end")
    assert all(starts.count(stage) == 2 for stage in MOMENTS) and sorted(ends) == sorted(set(ends))
    weights = "2-train/weights.safetensors"
    assert file_hash(killed / weights) == file_hash(whole.path / weights)


def test_nothing_was_measured_or_scored_twice(whole: FinishedRun, killed: Path) -> None:
    points = [row for row in records(killed / MOMENTS["profile"][0]) if row["kind"] == "latency"]
    assert len({json.dumps(point["selection"], sort_keys=True) for point in points}) == len(points) == 14
    assert [row["number"] for row in trials(killed)] == list(range(len(trials(whole.path))))
    ours, theirs = ({row["id"]: row["scores"] for row in trials(run)} for run in (killed, whole.path))
    common = ours.keys() & theirs.keys()
    assert len(common) >= 2 and {name: ours[name] for name in common} == {name: theirs[name] for name in common}


def test_int8_of_a_continued_run_is_that_of_its_delivered_network(killed: Path) -> None:
    """Bit by bit: nothing is left over from where the stage was cut off."""
    context, record = (
        RunContext(read_job(killed / "job.resolved.yaml"), killed),
        read(killed, "6-quantize/quantize.json"),
    )
    kept = {"float_heads": tuple(record["float_heads"]), "float_branches": tuple(record["float_branches"])}
    config = replace(context.job.quantize, **kept)
    model = Network.load(killed / "5-prune", "delivered").onnx(context.graph)
    batches = (image_BCHW.numpy() for image_BCHW in context.images("calibrate", config.images, config.batch_size)())
    int8 = quantize_onnx(model, batches, config).SerializeToString()
    assert int8 == (killed / "6-quantize" / "int8.onnx").read_bytes()
