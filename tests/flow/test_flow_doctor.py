"""doctor: what runtimes really run is read from their own graphs; devices are asked, with a cure for what they lack."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from mtnas.base.machine import cpu_info
from mtnas.base.optional import available
from mtnas.base.resources import resource_folder
from mtnas.measure.anchor import anchor_model
from mtnas.quantize.openvino_kernels import kernels
from mtnas.quantize.probe import CONVOLUTIONS, onnxruntime_int8, tiny_quantized
from mtnas.stages import doctor_runtimes
from mtnas.stages.doctor import examine, examine_text
from mtnas.stages.doctor_devices import devices

VNNI = {"avx512_vnni", "avx_vnni"} & set(cpu_info()["features"])


@pytest.mark.parametrize("signed", [False, True])
def test_the_probe_is_a_valid_network_with_all_its_pairs(signed: bool) -> None:
    model = tiny_quantized(signed)
    onnx.checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == CONVOLUTIONS and kinds.count("QuantizeLinear") == CONVOLUTIONS + 1


@pytest.mark.skipif(not VNNI, reason="the fusion rules asked for here are those of x64")
def test_onnxruntime_runs_unsigned_activations_as_integers_and_signed_ones_as_float() -> None:
    assert onnxruntime_int8(signed=False) == CONVOLUTIONS and onnxruntime_int8(signed=True) == 0


@pytest.mark.skipif(not available("openvino"), reason="openvino is not installed")
def test_openvino_is_seen_to_run_integers_and_to_be_pinned() -> None:
    hint, found = kernels(anchor_model())
    assert hint == "f32" and {k.precision for k in found if k.kind == "Convolution"} == {"f32"}
    if "avx512_bf16" in cpu_info()["features"]:
        hint, found = kernels(anchor_model(), pinned=False)
        assert hint == "bf16" and "bf16" in {k.precision for k in found}
    if VNNI:
        _, found = kernels(tiny_quantized(True).SerializeToString())
        assert sum(k.is_integer for k in found if k.kind == "Convolution") == CONVOLUTIONS


def test_counts_become_sentences() -> None:
    assert doctor_runtimes._told(2, 2) == "integer kernels (signed and unsigned activations)"
    assert doctor_runtimes._told(2, 0).endswith("signed activations: float kernels: int8 gains nothing")
    assert "1 of 2 convolutions" in doctor_runtimes._told(1, 0)


def test_every_runtime_has_a_row_and_absent_ones_say_why() -> None:
    rows = {row["name"]: row for row in doctor_runtimes.runtimes()}
    assert rows["onnxruntime"]["runs"] and rows["onnxruntime"]["int8"]
    assert all(row["runs"] or row["why_not"] for row in rows.values())


def test_shipped_devices_are_measured_or_not_and_say_what_they_lack() -> None:
    rows = {row["name"]: row for row in devices()}
    folders = {path.parent.name: path.parent for path in resource_folder("hardware_profiles").glob("*/device.yaml")}
    assert set(rows) == set(folders)
    for name, row in rows.items():
        assert row["measured"] == (folders[name] / "predictor.json").exists() and row["text"]
    assert rows["local-ort"]["reachable"] and rows["local-ort"]["measured"]
    for name, part in {"jetson-orin": "ssh: {host:", "raspberry-pi-5": "ssh: {host:", "snapdragon": "command"}.items():
        row = rows[name]
        assert not row["reachable"] and not row["measured"] and part in row["text"] and "cure" in row["text"]


def test_further_devices_are_asked_too(tmp_path: Path) -> None:
    here, gone, wrong = (tmp_path / name for name in ("here", "gone", "wrong"))
    for folder, command in ((here, sys.executable), (gone, "no-such-command")):
        folder.mkdir()
        (folder / "device.yaml").write_text(f"name: x\nreach: hook\nruntime: toy\nhook: {{command: [{command}]}}\n")
    wrong.mkdir()
    (wrong / "device.yaml").write_text("name: x\nthread: 1\n")
    rows = {row["name"]: row for row in devices([str(here), str(gone), str(wrong)])}
    assert rows[str(here)]["reachable"] and not rows[str(gone)]["reachable"] and not rows[str(wrong)]["reachable"]
    assert "no-such-command" in rows[str(gone)]["text"] and "did you mean 'threads'" in rows[str(wrong)]["text"]


def test_the_whole_examination_and_its_text() -> None:
    found = examine()
    text = examine_text(found)
    assert (found["state"]["cores"] >= 1 and found["energy"]["counter"]) or found["energy"]["looked_for"]
    for part in ("noise   ", "clocks  ", "energy  ", "runtimes", "devices", "onnxruntime 1."):
        assert part in text
    for row in found["reach"]:
        assert f"  {row['name']} (" in text
