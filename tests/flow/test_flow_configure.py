"""The verbs `configure` and `control` on a finished run: what they promise, keep and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tiny import Done, FinishedRun, mtnas

from mtnas.base.groups import Selection
from mtnas.base.journal import Journal
from mtnas.job.read import read_job
from mtnas.search.front import Front
from mtnas.space.arch import Arch
from mtnas.stages.configure import headline
from mtnas.stages.context import RunContext


def assert_told(done: Done, code: int, *words: str) -> None:
    assert done.code == code, done.err
    assert all(word in done.err for word in words), done.err
    assert "Traceback" not in done.err


@pytest.fixture(scope="module")
def run(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished.copy(tmp_path_factory.mktemp("configure") / "run")


def test_configure_keeps_the_budget_and_its_scores(run: Path, finished: FinishedRun) -> None:
    words = ("configure", run, "--budget", "macs=60%", "--prefer", "segmentation=3", "--json")
    done = mtnas(*words)
    assert done.code == 0, done.err
    found = done.result
    assert found["schema"] == "configured/1" and found["preference"] == {"segmentation": 0.75, "depth": 0.25}
    assert found["costs"]["macs"]["value"] <= found["limits"]["macs"]
    assert found["costs"]["latency_ms"]["kind"] == "predicted"
    journal = Journal(run / "4-search/evaluations.jsonl")
    assert len(journal.records()) == found["evaluations"] + 1
    assert mtnas(*words).result == found and len(journal.records()) == found["evaluations"] + 1
    text = mtnas(*words[:-1]).out
    assert "75 %" in text and f"network {found['id']}" in text and "limit" in text
    # the folder is still the run it was: nothing is done again
    assert "unchanged, skipped" in mtnas("search", finished.job, "--out", run).err


def test_configure_exports_the_network_that_it_names(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "configured.onnx"
    done = mtnas("configure", run, "--budget", "params=50%", "--prefer", "depth=5", "--export", target, "--json")
    assert done.code == 0, done.err
    context = RunContext(read_job(run / "job.resolved.yaml"), run)
    module = context.trained.extract(Arch.from_json(done.result["arch"]))
    image_BCHW, _targets = context.split("report").batch([0])
    with torch.no_grad():
        expected = module(image_BCHW)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    for (name, tensor), found in zip(expected.items(), session.run(None, {"image": image_BCHW.numpy()}), strict=True):
        np.testing.assert_allclose(found, tensor.numpy(), atol=1e-4 * float(tensor.abs().max()), err_msg=name)


def test_configure_says_what_is_in_the_way(run: Path, finished: FinishedRun, tmp_path: Path) -> None:
    assert_told(mtnas("configure", run, "--latency-ms", "0.000001"), 3, "latency_ms", "cure: relax")
    assert_told(mtnas("configure", run, "--floor", "segmentation=101"), 3, "floors", "lower them")
    assert_told(mtnas("configure", run, "--budget", "latency_ms"), 2, "--budget", "limit=value")
    assert_told(mtnas("configure", run, "--prefer", "dept=3"), 2, "did you mean 'depth'")
    assert_told(mtnas("configure", run, "--budget", "latency=3"), 2, "latency_ms")
    assert_told(mtnas("configure", run, "--strategy", "nsga"), 2, "nsga2")
    assert_told(mtnas("configure", tmp_path / "nothing"), 2, "nothing/4-search/search.json")
    unfinished = finished.copy(tmp_path / "run", upto="profile")
    assert_told(mtnas("configure", unfinished), 2, "4-search/search.json")


# --- some of the tasks --------------------------------------------------------------------------------------------


def test_configure_for_one_task(run: Path, finished: FinishedRun, tmp_path: Path) -> None:
    target = tmp_path / "depth.onnx"
    words = ("configure", run, "--tasks", "depth", "--budget", "macs=60%", "--json")
    done = mtnas(*words, "--export", target)
    assert done.code == 0, done.err
    found, arch = done.result, Arch.from_json(done.result["arch"])
    assert found["tasks"] == ["depth"] and found["preference"] == {"depth": 1.0}
    context = RunContext(read_job(run / "job.resolved.yaml"), run)
    whole, alone = context.graph, context.graph.answering(["depth"])
    largest, selection = Selection.of({}), context.trained.selection(arch)
    assert found["limits"]["macs"] == pytest.approx(0.6 * alone.counts(largest).macs)
    assert found["costs"]["macs"]["value"] == alone.counts(selection).macs < whole.counts(selection).macs
    assert found["scores"] == pytest.approx({"depth": headline(context, arch)["depth"]})
    # costs that a subset has for itself: predicted by a profile of its own networks, which was measured once
    assert found["costs"]["latency_ms"]["kind"] == "predicted" and "profile of networks for depth alone" in done.err
    assert (run / "subsets/depth/3-profile/device/predictor.json").is_file()
    again = mtnas(*words)
    assert {**again.result, "onnx": found["onnx"]} == found and "profile of networks" not in again.err
    text = mtnas(*words[:-1]).out
    assert f"network {found['id']} for depth alone" in text
    image_BCHW, _targets = context.split("report").batch([0])
    with torch.no_grad():
        expected = context.trained.extract(arch, tasks=["depth"])(image_BCHW)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["depth"]
    (answer,) = session.run(None, {"image": image_BCHW.numpy()})
    np.testing.assert_allclose(answer, expected["depth"].numpy(), atol=1e-4 * float(expected["depth"].abs().max()))
    assert "unchanged, skipped" in mtnas("search", finished.job, "--out", run).err


def test_control_for_one_task(run: Path) -> None:
    words = ("control", run, "--tasks", "depth", "--budget", "macs=60%", "--count", "2", "--json")
    done = mtnas(*words)
    assert done.code == 0, done.err
    assert [task["name"] for task in done.result["tasks"]] == ["depth"]
    assert json.loads((run / "subsets/depth/4-search/control.json").read_text()) == done.result
    assert not (run / "4-search/control.json").exists()


def test_tasks_that_are_not_there(run: Path) -> None:
    assert_told(mtnas("configure", run, "--tasks", "deph"), 2, "--tasks", "did you mean 'depth'")
    assert_told(mtnas("configure", run, "--tasks", ","), 2, "at least one task")
    assert_told(mtnas("configure", run, "--tasks", "depth,depth"), 2, "each task once")
    assert_told(mtnas("configure", run, "--tasks", "depth", "--prefer", "segmentation=2"), 2, "a task of this job")
    assert_told(mtnas("control", run, "--tasks", "depth", "--chooser", "front"), 2, "leave --chooser out")


# --- control ----------------------------------------------------------------------------------------------------


def test_control_asks_scores_on_the_report_split_and_shows_it(run: Path, finished: FinishedRun) -> None:
    words = ("control", run, "--budget", "macs=60%", "--budget", "macs=0.1%", "--count", "3", "--sweep", "2")
    done = mtnas(*words, "--json")
    assert done.code == 0, done.err
    record = done.result
    kept = json.loads((run / "4-search/control.json").read_text())
    assert kept == record and record["split"] == "report" and record["reference"]["what"] == "the unpruned network"
    possible, impossible = record["budgets"]
    assert possible["asked"] == possible["answered"] == 3 + 2 * 2 and impossible["answered"] == 0
    assert possible["budget_error"]["macs"]["violation_rate"] == 0 and impossible["reasons"]
    assert all(answer["costs"]["macs"]["value"] <= answer["limits"]["macs"] for answer in record["answers"][:7])
    context = RunContext(read_job(run / "job.resolved.yaml"), run)
    again = headline(context, Arch.from_json(record["answers"][0]["arch"]), "report")
    assert again == pytest.approx(record["answers"][0]["scores"])
    assert "Control: what the dials do" in (run / "report/index.html").read_text()
    chosen = len(Journal(run / "4-search/evaluations.jsonl").records())
    text = mtnas(*words).out
    assert "(3 preferences)" in text and "7/7" in text and "0/7" in text
    assert len(Journal(run / "4-search/evaluations.jsonl").records()) == chosen  # nothing is evaluated twice
    # the folder is still the run it was
    assert "report: unchanged, skipped" in mtnas("report", finished.job, "--out", run).err


def test_control_of_the_front(run: Path) -> None:
    front = {trial.arch.id for trial in Front.load(run / "4-search/front.json").trials}
    done = mtnas("control", run, "--chooser", "front", "--count", "4", "--sweep", "0", "--json")
    assert done.code == 0, done.err
    answers = done.result["answers"]
    assert len(done.result["budgets"]) <= 4 and {a["id"] for a in answers} - {None} <= front
    assert done.result["chooser"] == "front"


def test_control_refuses_what_it_does_not_know(run: Path, tmp_path: Path) -> None:
    assert_told(mtnas("control", run, "--chooser", "frnt"), 2, "did you mean 'front'")
    assert_told(mtnas("control", run, "--budget", "latency=3"), 2, "latency_ms")
    assert_told(mtnas("control", tmp_path / "nothing"), 2, "nothing/4-search/search.json")
