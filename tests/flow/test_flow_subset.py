"""A run's file for some of its tasks: the same answers, fewer nodes, measured, certified like any file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tiny import FinishedRun, assert_told, mtnas

from mtnas.export.manifest import Manifest


def answers(path: Path, image_BCHW: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": image_BCHW}), strict=True))


def test_a_subset_of_the_delivered_file(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run")
    done = mtnas("export", run, "--tasks", "depth", "--json")
    assert done.code == 0, done.err
    record = done.result
    path, whole = Path(record["model"]), run / "7-export/model.onnx"
    assert path == run / "subsets/depth/model.onnx"
    image_BCHW = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(answers(path, image_BCHW)["depth"], answers(whole, image_BCHW)["depth"], rtol=1e-4)
    assert list(answers(path, image_BCHW)) == ["depth"]
    nodes = {file: len(onnx.load_model(str(file)).graph.node) for file in (path, whole)}
    assert record["costs"]["subset"]["nodes"] == nodes[path] < nodes[whole]
    assert record["costs"]["subset"]["macs"] < record["costs"]["delivered"]["macs"]
    manifest = Manifest.load(path.with_name("manifest.json"))
    assert [info.task for info in manifest.outputs] == ["depth"] and manifest.check(path.parent) == path
    table = {row["name"]: row for row in finished.done.result["table"]}
    delivered = json.loads((run / "6-quantize/quantize.json").read_text())["delivered"]
    if delivered == "int8":
        assert record["scores"]["depth"] == pytest.approx(table["int8"]["scores"]["depth"], rel=1e-4)
    assert [head["task"] for head in record["heads"]] == ["depth"] and record["heads"][0]["ok"]
    assert mtnas("certify", path, "--latency-ms", "1000").code == 0
    assert mtnas("run", finished.job, "-o", run).code == 0  # nothing of the run has changed


def test_wrong_names_and_places(finished: FinishedRun, tmp_path: Path) -> None:
    assert_told(mtnas("export", finished.path, "--tasks", "deph", "-o", tmp_path / "a"), 2, "'deph'", "depth")
    assert_told(mtnas("export", finished.path, "--tasks", ",", "-o", tmp_path / "a"), 2, "at least one task")
    assert_told(mtnas("export", tmp_path, "--tasks", "depth"), 2, "job.resolved.yaml")
    assert_told(mtnas("export", "--tasks", "depth"), 2, "folder of a run")
    assert_told(mtnas("pick", finished.path, "--tasks", "depth"), 2, "--export")


def test_a_changed_file_is_refused(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run")
    model = run / "7-export/model.onnx"
    model.write_bytes(model.read_bytes() + b"\x00")
    assert_told(mtnas("export", run, "--tasks", "depth"), 3, "model.onnx", "sha256")


def test_a_picked_network_for_some_tasks(finished: FinishedRun, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.onnx", tmp_path / "part.onnx"
    assert mtnas("pick", finished.path, "--export", whole).code == 0
    done = mtnas("pick", finished.path, "--export", part, "--tasks", "segmentation")
    assert done.code == 0, done.err
    image_BCHW = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    found, expected = answers(part, image_BCHW), answers(whole, image_BCHW)
    assert list(found) == ["segmentation"] and set(expected) == {"segmentation", "depth"}
    np.testing.assert_allclose(found["segmentation"], expected["segmentation"], rtol=1e-4, atol=1e-5)
