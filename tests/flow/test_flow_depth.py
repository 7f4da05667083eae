"""A whole run whose space has depth: blocks are left out in the search, in the delivered file and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import tiny

from mtnas.base.groups import Selection
from mtnas.graph.elastic_graph import ElasticGraph

STAGE = "encoder.stages.1/depth"
JOB = (
    tiny.JOB.replace("blocks: [1, 1]", "blocks: [1, 3]")
    .replace("epochs: 3", "epochs: 1")
    .replace("trials: 8", "trials: 4")
    .replace("prune: {target: 20%", "prune: {enabled: false, target: 20%")
    .replace("space: {", "space: {rules: depth, ")
)


@pytest.mark.slow
def test_a_run_with_depth_delivers_the_blocks_that_its_arch_keeps(tmp_path: Path) -> None:
    job, run = tmp_path / "job.yaml", tmp_path / "run"
    job.write_text(JOB, encoding="utf-8")
    done = tiny.finish(tiny.start("run", job, "--out", run, "--json", scratch=tmp_path))
    assert done.code == 0, done.err
    space = json.loads((run / "1-space" / "space.json").read_text())
    assert {block["name"]: block["stage"] for block in space["blocks"]} == {
        "encoder.stages.1.1": STAGE,
        "encoder.stages.1.2": STAGE,
    }
    chosen = json.loads((run / "4-search" / "search.json").read_text())["chosen"]
    depth = chosen["arch"][STAGE]
    skipped = [f"encoder.stages.1.{block}" for block in (1, 2) if block > depth]
    assert chosen["skipped"] == skipped
    delivered = Selection.from_json(json.loads((run / "5-prune" / "delivered.json").read_text())["selection"])
    assert list(delivered.skipped) == skipped
    cut = ElasticGraph.load(run / "1-space" / "graph").cut(delivered)
    convolutions = [sum(n.op_type == "Conv" for n in model.graph.node) for model in (cut, delivered_file(run))]
    whole = 1 + (2 + 1) + (2 + 1 + 2 * depth) + 2 * (2 + 1 + 1)  # stem, stages with their shortcuts, two heads
    assert convolutions == [whole, whole]
    assert STAGE in (run / "report" / "index.html").read_text(encoding="utf-8")


def delivered_file(run: Path) -> onnx.ModelProto:
    return onnx.load_model(str(run / "7-export" / "model.onnx"))
