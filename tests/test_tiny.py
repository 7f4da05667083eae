"""A tour: one toy job from the first command to the file on the device. Read it like the manual."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny import FinishedRun, mtnas

from mtnas.base.groups import Selection
from mtnas.export.manifest import Manifest
from mtnas.job.read import read_job
from mtnas.search.front import Front
from mtnas.stages.context import RunContext
from mtnas.stages.network import Network


@pytest.fixture
def tour(finished: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> FinishedRun:
    """`mtnas run tiny.yaml`, once for all tests."""
    monkeypatch.setattr(tempfile, "tempdir", str(finished.path.parent))
    return finished


def test_1_a_job_says_what_is_wanted(tour: FinishedRun) -> None:
    job = read_job(tour.job)
    assert [task.name for task in job.tasks] == ["segmentation", "depth"]
    assert [str(limit) for limit in job.budget.limits] == ["latency_ms <= 100 ms", "macs <= 80%"]
    assert read_job(tour.path / "job.resolved.yaml") == job  # the complete job lies beside the results


def test_2_one_command_runs_it(tour: FinishedRun) -> None:
    assert tour.done.code == 0
    result = json.loads(tour.done.out)  # with --json the result is on stdout, progress on stderr
    assert result["met"] is True
    assert [row["name"] for row in result["table"]] == ["full", "chosen", "pruned", "int8"]


def test_3_the_elastic_network_knows_its_groups_and_their_owners(tour: FinishedRun) -> None:
    groups = {group["name"]: group for group in json.loads((tour.path / "1-space/space.json").read_text())["groups"]}
    assert groups["encoder.stem.0.0"]["owners"] == ["segmentation", "depth"]
    assert groups["heads.depth.smooth.0.0"]["owners"] == ["depth"]
    assert "output" in groups["heads.depth.output"]["frozen"]


def test_4_one_set_of_weights_runs_at_every_width(tour: FinishedRun) -> None:
    context = RunContext(read_job(tour.job), tour.path)
    elastic = context.trained
    image_BCHW, _targets = context.split("select").batch([0, 1])
    for arch in (elastic.space.largest, elastic.space.smallest):
        selection = elastic.selection(arch)
        small = elastic.extract(arch)  # a plain module, statistics re-estimated
        with torch.no_grad():
            views, own = elastic.run(image_BCHW, selection), small(image_BCHW)
        for task in context.tasks:
            torch.testing.assert_close(views[task], own[task], rtol=1e-4, atol=1e-4)


def test_5_any_network_is_cut_from_one_graph_without_torch(tour: FinishedRun) -> None:
    context = RunContext(read_job(tour.job), tour.path)
    elastic, graph = context.trained, context.graph
    selection = elastic.selection(elastic.space.smallest)
    network = Network.of_elastic("smallest", selection, elastic)
    session = onnxruntime.InferenceSession(network.onnx(graph).SerializeToString())
    image_BCHW, _targets = context.split("select").batch([0])
    with torch.no_grad():
        expected = network.module(elastic)(image_BCHW)
    for (task, tensor), found in zip(expected.items(), session.run(None, {"image": image_BCHW.numpy()}), strict=True):
        np.testing.assert_allclose(found, tensor.numpy(), atol=1e-4 * float(tensor.abs().max()), err_msg=task)
    assert graph.counts(selection).macs < graph.counts(Selection.of({})).macs


def test_6_numbers_say_whether_they_were_measured_predicted_or_counted(tour: FinishedRun) -> None:
    search = json.loads((tour.path / "4-search/search.json").read_text())
    for row in search["front"]:
        assert row["costs"]["latency_ms"]["kind"] == "measured"  # the front is never only predicted
        assert row["predicted_latency_ms"]["kind"] == "predicted"
        assert row["costs"]["macs"]["kind"] == "counted"
        assert row["costs"]["macs"]["value"] <= search["limits"]["macs"]["bound"]
    assert len(search["hypervolume"]["nsga2"]) == len(search["hypervolume"]["random"]) == 8


def test_7_no_stage_hands_on_something_slower(tour: FinishedRun) -> None:
    prune = json.loads((tour.path / "5-prune/prune.json").read_text())
    assert prune["kept"] == ("chosen" if prune["gate"]["verdict"] == "slower" else prune["kept"])
    quantize = json.loads((tour.path / "6-quantize/quantize.json").read_text())
    assert quantize["delivered"] == "float" or quantize["gate"]["verdict"] == "faster"
    assert quantize["reason"]


def test_8_the_delivered_file_explains_itself(tour: FinishedRun) -> None:
    folder = tour.path / "7-export"
    manifest = Manifest.load(folder / "manifest.json")
    model = onnx.load(str(manifest.check(folder)))  # refuses a file with another hash
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert model.opset_import[0].version in (20, 21)
    assert [output.task for output in manifest.outputs] == ["segmentation", "depth"]
    assert [value.name for value in model.graph.input] == ["image"]


def test_9_the_certificate_is_a_measurement_of_exactly_this_file(tour: FinishedRun) -> None:
    certificate = json.loads((tour.path / "8-verify/certificate.json").read_text())
    manifest = Manifest.load(tour.path / "7-export/manifest.json")
    assert certificate["met"] is True
    assert certificate["model_sha256"] == manifest.sha256
    limits = {limit["name"]: limit for limit in certificate["limits"]}
    assert limits["latency_ms"]["measured"]["kind"] == "measured"
    assert limits["macs"]["measured"]["kind"] == "counted"
    heads = json.loads((tour.path / "8-verify/verify.json").read_text())["heads"]
    assert all(head["ok"] for head in heads)
    page = (tour.path / "report/index.html").read_text()
    assert "http://" not in page.split("plotly")[0]
    assert "certificate" in page.lower()


def test_10_another_trade_off_later(tour: FinishedRun, tmp_path: Path) -> None:
    front = Front.load(tour.path / "4-search/front.json")
    fast = min(front.trials, key=lambda trial: trial.outcome.objectives["latency_ms"])
    picked = front.pick(budget={"latency_ms": fast.outcome.objectives["latency_ms"] * 1.0001})
    assert picked.outcome.objectives["latency_ms"] <= fast.outcome.objectives["latency_ms"] * 1.0001
    done = mtnas("pick", tour.path, "--prefer", "depth=3", "--export", tmp_path / "other.onnx")
    assert done.code == 0, done.err
    onnxruntime.InferenceSession(str(tmp_path / "other.onnx"))
