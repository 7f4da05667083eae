"""A whole run of a task-routed transformer: experts per task are chosen, all tasks and one task are delivered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny

from mtnas.job.read import read_job
from mtnas.stages.context import RunContext

MODEL = "model: {encoder: vit_moe, top_k: 2, width: 16, blocks: [1, 1], output_stride: 8, head_width: 16, head_convs: 1"
JOB = (
    tiny.JOB.replace("model: {width: 16, blocks: [1, 1], output_stride: 8, head_width: 16, head_convs: 1", MODEL)
    .replace("space: {", "space: {rules: operators, ")
    .replace("epochs: 3", "epochs: 1")
    .replace("trials: 8", "trials: 6")
    .replace("prune: {target: 20%", "prune: {enabled: false, target: 20%")
    .replace("quantize: {images: 32}", "quantize: {enabled: false}")
    + "references: {mode: none}\n"
)
PLACE = "encoder.stages.1.1.own"


@pytest.mark.slow
def test_a_run_chooses_experts_per_task_and_delivers_one_task_with_its_own(tmp_path: Path) -> None:
    job, run = tmp_path / "job.yaml", tmp_path / "run"
    job.write_text(JOB, encoding="utf-8")
    done = tiny.mtnas("run", job, "--out", run, "--json")
    assert done.code == 0, done.err
    space = json.loads((run / "1-space/space.json").read_text(encoding="utf-8"))
    forks = {fork["name"]: (fork["options"], fork["owners"]) for fork in space["forks"]}
    assert forks == {f"{PLACE}.{task}": (["1", "2"], [task]) for task in ("segmentation", "depth")}
    chosen = json.loads((run / "4-search/search.json").read_text(encoding="utf-8"))["chosen"]["chosen"]
    whole = run / "7-export/model.onnx"
    assert experts_in(whole) == {
        (task, str(k)) for task in chosen_tasks(chosen) for k in range(chosen_tasks(chosen)[task])
    }
    part = tiny.mtnas("export", run, "--tasks", "depth", "--json")
    assert part.code == 0, part.err
    path = Path(part.result["model"])
    assert {task for task, _ in experts_in(path)} == {"depth"}
    assert part.result["costs"]["subset"]["macs"] < part.result["costs"]["delivered"]["macs"]
    image_BCHW = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    found, expected = (
        onnxruntime.InferenceSession(str(file)).run(["depth"], {"image": image_BCHW}) for file in (path, whole)
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)


def chosen_tasks(chosen: dict[str, str]) -> dict[str, int]:
    """How many experts each task runs in the delivered network."""
    return {task: int(chosen.get(f"{PLACE}.{task}", "2")) for task in ("segmentation", "depth")}


def experts_in(path: Path) -> set[tuple[str, str]]:
    """(task, number) of the experts whose weights a file holds."""
    tensors = onnx.load_model(str(path)).graph.initializer
    found = (re.search(r"own\.(\w+)\.branches\.(\d+)\.expand", tensor.name) for tensor in tensors)
    return {(match[1], match[2]) for match in found if match}


def test_one_task_of_a_run_whose_tokens_choose_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.resolved.yaml").write_text(JOB.replace("top_k: 2", "top_k: 2, routing: token"), encoding="utf-8")
    done = tiny.mtnas("export", tmp_path, "--tasks", "depth")
    tiny.assert_told(done, 2, "any token may ask for any of them", "model.routing: task")


@pytest.mark.slow
def test_a_network_for_one_task_is_not_configured_where_tokens_choose(tmp_path: Path) -> None:
    """Nor picked; both are told at once, and for all tasks together both are made."""
    job, run = tmp_path / "job.yaml", tmp_path / "run"
    text = JOB.replace("top_k: 2", "routing: token, experts: 3, top_k: 1").replace("rules: operators, ", "")
    few = text.replace("train: 64", "train: 16").replace("samples: 14", "samples: 7").replace("trials: 6", "trials: 4")
    job.write_text(few, encoding="utf-8")
    done = tiny.mtnas("search", job, "--out", run, "--json")
    assert done.code == 0, done.err
    words = "any token may ask for any of them", "model.routing: task"
    tiny.assert_told(tiny.mtnas("configure", run, "--tasks", "depth"), 2, *words)
    assert not (run / "subsets").exists()  # no profile was measured for it
    tiny.assert_told(tiny.mtnas("pick", run, "--tasks", "depth", "--export", tmp_path / "picked.onnx"), 2, *words)
    assert not (tmp_path / "picked.onnx").exists()
    whole = tiny.mtnas("configure", run, "--tasks", "depth,segmentation", "--json")
    context = RunContext(read_job(run / "job.resolved.yaml"), run)
    rows = {row.name: row for row in context.elastic.summary().groups}
    for name, channels in whole.result["channels"].items():
        assert channels["of"] == rows[name].channels and channels["kept"] in rows[name].widths
    assert whole.code == 0 and set(whole.result["scores"]) == {"segmentation", "depth"}, whole.err
