"""A whole run of some of a job's tasks: the others are not trained, scored, counted, delivered or mentioned."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import tiny
import torch
from tiny import assert_told, mtnas
from user_network import network

#: multiply-adds of the network that answers depth alone, on 32x32 pixels: body and one decoder
MACS = 32 * 32 * (3 * 16 * 9 + 16 * 16 * 9 + 16 * 16 * 9 + 16)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's trained network of three outputs, of which the job names two."""
    folder = tmp_path_factory.mktemp("some-tasks")
    torch.manual_seed(1)
    torch.save(network().state_dict(), folder / "trained.pt")
    model = "model: {factory: 'user_network:network'}"
    text = tiny.JOB.replace(
        "model: {width: 16, blocks: [1, 1], output_stride: 8, head_width: 16, head_convs: 1}", model
    )
    text = text.replace("train: {epochs: 3,", f"train: {{epochs: 1, start: {folder / 'trained.pt'},")
    path = folder / "job.yaml"
    path.write_text(text + "references: {mode: train}\n", encoding="utf-8")
    return path


def test_a_run_of_one_task(job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("run", job, "-o", run, "--tasks", "depth", "--json")
    done = mtnas(*words)
    assert done.code == 0, done.err
    assert "tasks that are left out are not read, from seg." in done.err
    for name in ("2-train/curves.jsonl", "2-train/train.json"):
        assert "depth" in (run / name).read_text() and "segmentation" not in (run / name).read_text()
    search = json.loads((run / "4-search/search.json").read_text())
    assert [objective["name"] for objective in search["objectives"]] == ["depth", "latency_ms"]
    assert set(search["floors"]) == {"depth"} and set(search["full"]["scores"]) == {"depth"}
    rows = {row["name"]: row for row in done.result["table"]}
    assert rows["full"]["macs"] == MACS and set(rows["pruned"]["scores"]) == {"depth"}
    references = json.loads((run / "references/references.json").read_text())
    assert set(references["scores"]) == {"depth"}
    assert [path.name.split("-")[0] for path in (tmp_path / ".references").iterdir()] == ["depth"]
    delivered = onnx.load_model(str(run / "7-export/model.onnx"))
    assert [output.name for output in delivered.graph.output] == ["depth"]
    assert not any(tensor.name.startswith(("seg.", "saliency.")) for tensor in delivered.graph.initializer)
    page = (run / "report/index.html").read_text()
    assert "depth" in page and "segmentation" not in page and "saliency" not in page
    assert "trained alone" in page and "unchanged, skipped" in mtnas(*words).err


def test_a_plan_counts_what_is_left(job: Path) -> None:
    plan = mtnas("plan", job, "--tasks", "depth", "--json").result
    assert plan["job"] == "tiny-depth" and plan["largest"]["macs"] == MACS
    assert plan["stages"]["references"].startswith("1 single-task networks")


def test_wrong_names_are_told_before_anything_runs(job: Path, tmp_path: Path) -> None:
    assert_told(mtnas("run", job, "-o", tmp_path / "a", "--tasks", "deph"), 2, "'deph'", "--tasks", "'depth'")
    assert_told(mtnas("train", job, "-o", tmp_path / "a", "--tasks", "depth,depth"), 2, "each task once")
    assert_told(mtnas("export", job, "-o", tmp_path / "a", "--tasks", ","), 2, "at least one task", "choose from")
    assert_told(mtnas("plan", job, "--tasks", "saliency"), 2, "a task of this job")
    assert not (tmp_path / "a").exists()
