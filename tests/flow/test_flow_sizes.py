"""A whole run whose space has input sizes, under a budget that no network of the full size keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
import torch

from mtnas.base.groups import Selection
from mtnas.graph.count_model import count_model
from mtnas.graph.prove import relative_error, run_model
from mtnas.job.read import read_job
from mtnas.space.arch import Arch
from mtnas.stages.context import RunContext
from mtnas.stages.network import Network

RULES = "shared: [0.75, 1.0]\ndecoder: [0.75, 1.0]\nresolution: [0.5, 1.0]\n"
JOB = (
    tiny.JOB.replace("epochs: 3", "epochs: 1")
    .replace("macs: 80%", "macs: 40%")  # three quarters of every width are more than half
    .replace("trials: 8", "trials: 6")
    .replace("max_steps: 3", "max_steps: 1")
)


@pytest.mark.slow
def test_a_run_with_sizes_delivers_a_network_that_resizes(tmp_path: Path) -> None:
    rules, job, run = tmp_path / "sizes.yaml", tmp_path / "job.yaml", tmp_path / "run"
    rules.write_text(RULES, encoding="utf-8")
    job.write_text(JOB.replace("space: {", f"space: {{rules: {rules}, "), encoding="utf-8")
    done = tiny.finish(tiny.start("run", job, "--out", run, "--json", scratch=tmp_path), timeout_s=540.0)
    assert done.code == 0, done.err
    assert done.result["met"] and done.result["passed"]
    space, search = read(run, "1-space/space.json"), read(run, "4-search/search.json")
    assert space["input_sizes"] == [{"size": "16x16", "refused": ""}, {"size": "32x32", "refused": ""}]
    chosen = search["chosen"]
    assert chosen["arch"]["input"] == chosen["size"] == "16x16"
    assert {row["arch"]["input"] for row in search["front"]} == {"16x16"} and search["full"]["size"] is None
    check_delivered(run)
    check_picked(run, chosen["arch"], tmp_path / "picked.onnx")
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "Input sizes" in page and "runs at 16x16" in page


def read(run: Path, name: str) -> dict[str, object] | dict[str, dict[str, object]] | dict[str, list[dict[str, object]]]:
    return json.loads((run / name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def context_of(run: Path) -> RunContext:
    return RunContext(read_job(run / "job.resolved.yaml"), run)


def check_delivered(run: Path) -> None:
    """The file takes and gives full images, runs at half of them, and keeps the budget; pruning kept the size."""
    delivered = Selection.from_json(read(run, "5-prune/delivered.json")["selection"])
    assert delivered.size == (16, 16)
    context = context_of(run)
    network = Network.load(run / "5-prune", "delivered")
    image_BCHW, _ = context.split("report").batch(np.arange(1))
    module = network.module(context.trained)
    with torch.no_grad():
        expected = module(image_BCHW)
    found = run_model(network.onnx(context.graph), image_BCHW.numpy())
    assert all(output.shape[2:] == (32, 32) for output in expected.values())
    assert max(relative_error(found[task], output.numpy()) for task, output in expected.items()) <= 1e-4
    full = context.graph.counts(Selection.of({})).macs
    assert count_model(network.onnx(context.graph)).macs <= 0.4 * full
    file = onnx.load_model(str(run / "7-export" / "model.onnx"))
    outputs = run_model(file, image_BCHW.numpy())
    assert all(outputs[task].shape == tuple(output.shape) for task, output in expected.items())


def check_picked(run: Path, arch: dict[str, int | str], target: Path) -> None:
    """`pick --export` writes what torch computes."""
    done = tiny.mtnas("pick", run, "--export", target, "--json")
    assert done.code == 0, done.err
    assert done.result["arch"]["input"] == "16x16"
    elastic = context_of(run).trained
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = elastic.extract(Arch.from_json(done.result["arch"]))(image)
    found = run_model(onnx.load_model(str(target)), image.numpy())
    assert max(relative_error(found[task], output.numpy()) for task, output in expected.items()) <= 1e-4
    assert set(arch) == set(done.result["arch"])
