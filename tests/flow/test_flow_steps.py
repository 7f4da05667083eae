"""Where a run's width step comes from: the job, the device, or a probe that is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from mtnas.job.read import read_job
from mtnas.measure import width_steps
from mtnas.measure.devices import read_device
from mtnas.measure.width_steps import WidthSteps
from mtnas.stages import steps
from mtnas.stages.context import RunContext


def context(folder: Path, *overrides: str) -> RunContext:
    job = folder / "job.yaml"
    job.write_text(tiny.JOB, encoding="utf-8")
    return RunContext(read_job(job, overrides), folder / "run")


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> WidthSteps:
    """A real probe of a few widths."""
    run = context(tmp_path_factory.mktemp("probe"))
    widths = (8, 12, 16, 20, 24, 28, 32, 36)
    return width_steps.probe_steps(run.job.device, lambda model: model, kinds=("conv1x1",), widths=widths)


def with_steps(probe: WidthSteps, doubt: str = "", **found: int) -> WidthSteps:
    curve = probe.curves[0]
    return replace(
        probe,
        curves=tuple(
            replace(curve, precision=name, stairs=replace(curve.stairs, step=step, doubt=doubt))
            for name, step in found.items()
        ),
    )


def test_a_number_and_the_device_need_no_probe(tmp_path: Path) -> None:
    assert context(tmp_path).width_step == 8
    assert context(tmp_path, "space.round_to=device").width_step == read_device("local-ort").round_to


def test_a_probe_is_done_once_and_kept(tmp_path: Path, probe: WidthSteps, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*args: object, **options: object) -> WidthSteps:
        calls.append(options)
        return with_steps(probe, float32=4, int8=8)

    monkeypatch.setattr(width_steps, "probe_steps", counted)
    first = context(tmp_path, "space.round_to=probe")
    assert first.width_step == 8  # the delivered file may be either
    assert context(tmp_path, "space.round_to=probe").width_step == 8
    assert len(calls) == 1
    kept = json.loads((first.run.stage("space") / "stairs.json").read_text(encoding="utf-8"))
    assert kept["steps"] == {"float32": 4, "int8": 8}
    # a space that was drawn keeps its step
    (first.run.stage("space") / "space.json").write_text(json.dumps({"width_step": {"step": 8}}), encoding="utf-8")
    assert context(tmp_path, "space.round_to=probe", "quantize.enabled=false").width_step == 8


def test_another_step_draws_another_space(tmp_path: Path) -> None:
    """A device of the same step keeps the space, and with it the training; a probe belongs to its device."""

    def inputs(*overrides: str) -> list[str]:
        return steps.step_inputs(context(tmp_path, *overrides))

    other = ("device.device=local-openvino", "device.runtime=openvino")
    assert inputs("space.round_to=device") == inputs("space.round_to=device", *other)
    assert inputs("space.round_to=device") != inputs("space.round_to=8")
    assert inputs("space.round_to=probe") != inputs("space.round_to=probe", *other)
    assert inputs("space.round_to=probe") != inputs("space.round_to=probe", "quantize.enabled=false")


def test_without_int8_only_float_counts(tmp_path: Path, probe: WidthSteps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(width_steps, "probe_steps", lambda *a, **k: with_steps(probe, float32=4))
    run = context(tmp_path, "space.round_to=probe", "quantize.enabled=false")
    assert steps.delivered_precisions(run) == ("float32",)
    assert run.width_step == 4


def test_a_probe_in_doubt_does_not_steer(tmp_path: Path, probe: WidthSteps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(width_steps, "probe_steps", lambda *a, **k: with_steps(probe, "noisy", float32=4, int8=4))
    assert context(tmp_path, "space.round_to=probe").width_step == read_device("local-ort").round_to


def test_depthwise_layers_are_probed_where_the_network_has_them(tmp_path: Path) -> None:
    assert "depthwise3x3" not in steps.kinds_of_layers(context(tmp_path))
    blocks = ("model.encoder=mobilenet", "model.blocks=[1, 1, 1]")
    assert "depthwise3x3" in steps.kinds_of_layers(context(tmp_path, *blocks))


def test_a_finished_run_has_the_costs_of_its_parts(finished: tiny.FinishedRun) -> None:
    for stage in ("3-profile", "8-verify"):
        costs = json.loads((finished.path / stage / "parts.json").read_text(encoding="utf-8"))
        assert [part["name"] for part in costs["parts"]] == ["shared", "segmentation", "depth", "call"]
        assert len(costs["subsets"]) == 3
        assert costs["memory_mb"]["value"] > 0
    text = (finished.path / "report" / "index.html").read_text(encoding="utf-8")
    assert text.count("Cost where it arises") == 2
