"""A whole run of a user's network with a `OneOf` and a `SumOf`: chosen in the search, delivered, reported; resumed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import onnx
import pytest
import tiny

from mtnas.base.groups import Selection
from mtnas.graph.elastic_graph import ElasticGraph

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
    .replace("macs: 80%", "macs: 60%")  # the widths are held: only operators and experts can keep it
    .replace("trials: 8", "trials: 6")
    .replace("prune: {target: 20%", "prune: {enabled: false, target: 20%")
)
RULES = "shared: [1.0]\ndecoder: [1.0]\noperators: true\nexperts: true\n"


@pytest.mark.slow
def test_a_run_chooses_operators_and_experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, run, rules = tmp_path / "job.yaml", tmp_path / "run", tmp_path / "rules.yaml"
    (tmp_path / "forked_net.py").write_text(NETWORK, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    rules.write_text(RULES, encoding="utf-8")
    job.write_text(JOB.replace("space: {", f"space: {{rules: {rules}, "), encoding="utf-8")
    first = tiny.finish(tiny.start("run", job, "--out", run, "--json", scratch=tmp_path), timeout_s=540.0)
    assert first.code == 0, first.err
    space, search = read(run, "1-space/space.json"), read(run, "4-search/search.json")
    assert {fork["name"]: fork["options"] for fork in space["forks"]} == {
        "operator": ["none", "k3", "k5"],
        "mix": ["1", "2", "3"],
    }
    arch, chosen = search["chosen"]["arch"], search["chosen"]["chosen"]
    assert chosen == {"operator": arch["operator/operator"], "mix": str(arch["mix/experts"])}
    assert len({(row["arch"]["operator/operator"], row["arch"]["mix/experts"]) for row in trials(run)}) >= 4
    assert search["chosen"]["costs"]["macs"]["value"] <= 0.6 * space["largest"]["macs"]
    delivered = Selection.from_json(read(run, "5-prune/delivered.json")["selection"])
    cut = ElasticGraph.load(run / "1-space" / "graph").cut(delivered)
    whole = 1 + (arch["operator/operator"] != "none") + arch["mix/experts"] + 2
    for model in (cut, onnx.load_model(str(run / "7-export" / "model.onnx"))):
        assert sum(node.op_type == "Conv" for node in model.graph.node) == whole
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "Operators and experts, before and after" in page and "All 2 forks" in page
    (run / "DONE").unlink(missing_ok=True)
    again = tiny.finish(tiny.start("run", job, "--out", run, "--json", scratch=tmp_path), timeout_s=240.0)
    assert again.code == 0 and "search: unchanged, skipped" in again.err
    assert read(run, "4-search/search.json") == search


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


def trials(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "4-search" / "trials.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "arch" in row]
