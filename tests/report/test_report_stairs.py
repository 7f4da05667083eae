"""The picture of width steps: well-formed, complete by itself, and it marks what was found."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_parts import parts_record, stairs_record
from report_run import FakeRun

from mtnas.base.progress import Silent
from mtnas.report.gather import gather
from mtnas.report.sections import parts, stairs
from mtnas.report.stairs_svg import stairs_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_marks_every_edge() -> None:
    root = ElementTree.fromstring(stairs_svg(stairs_record(), "a <device> & more"))
    assert root.tag == f"{SVG}svg"
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert "a <device> & more" in texts
    assert {"float32", "int8", "16", "32", "96", "3×3 convolutions: step 16", "3×3 convolutions: step 4"} <= set(texts)
    open_dots = [dot for dot in root.iter(f"{SVG}circle") if dot.get("fill") == "#ffffff"]
    assert len(open_dots) == 2 * 6  # two kinds of layers, edges 16 to 96, float32 only
    assert len(list(root.iter(f"{SVG}polyline"))) == 4


def test_a_larger_latency_lies_higher() -> None:
    root = ElementTree.fromstring(stairs_svg(stairs_record(), "x"))
    for line in root.iter(f"{SVG}polyline"):
        heights = [float(point.split(",")[1]) for point in str(line.get("points")).split()]
        assert heights == sorted(heights, reverse=True)


def test_the_section_tells_steps_and_evidence(tmp_path: Path) -> None:
    text = stairs.render(gather(FakeRun(tmp_path).upto("space")))
    assert "3×3 convolutions in steps of 16" in text
    assert "3×3 convolutions evenly" in text
    assert "multiples of 16" in text
    assert text.count('class="plot"') == 2


def test_costs_of_parts_say_what_does_not_add_up(tmp_path: Path) -> None:
    results = gather(FakeRun(tmp_path).upto("verify"))
    before, after = parts.full(results), parts.compared(results)
    for text in (before, after):
        assert "−1.0\u00a0% off the whole" in text
        assert "the worst network is 2.0\u00a0% off" in text
        assert "Latency of 15 subsets of the tasks" in text
    assert "The shared part alone" in before
    assert "The shared part alone" not in after
    assert 'class="plot"' in after


def test_exact_by_construction_is_said() -> None:
    record = {**parts_record(["a", "b"], 1.0), "error_percent": None}
    assert "exact by construction" in parts.sum_note(record)


def test_the_verb_leaves_record_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtnas.api import where
    from mtnas.stages.probe import probe_device, probe_text

    environment = {"runtime": "onnxruntime", "runtime_version": "1.31.0", "cpu": "a processor"}
    found = {**stairs_record(), "environment": environment}
    fake = type("Found", (), {"to_json": lambda self: found})
    monkeypatch.setattr(where, "width_steps", lambda **options: fake())
    record = probe_device("local-ort", tmp_path / "new", Silent())
    text = probe_text(record, tmp_path / "new")
    assert "float32  multiples of 16" in text
    assert "step 16  +60 % at edges" in text
    ElementTree.parse(tmp_path / "new" / "stairs.svg")
    assert (tmp_path / "new" / "stairs.json").is_file()
