"""Width steps: stairs drawn by hand are found, even ones are not, and a real device gives a sensible answer."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from measure_subject import quick_config

from mtnas.base.errors import CheckpointError
from mtnas.measure.probe_networks import KINDS, WIDTHS
from mtnas.measure.staircase import envelope, find_stairs, smooth_curve
from mtnas.measure.width_steps import WidthSteps, probe_steps
from mtnas.quantize.timing import timing_copy

GRID = np.array(WIDTHS)
STEPS = (1, 4, 8, 16, 32)


def curve(step: int, noise: float = 0.0, seed: int = 0, slope: float = 0.0) -> np.ndarray:
    """Latency of a kernel that computes whole blocks of `step` channels, and for a share of its time single ones."""
    wide = (1 - slope) * (-(-GRID // step) * step) + slope * GRID
    rng = np.random.default_rng(seed)
    return (0.01 + 0.001 * wide + 0.0001 * wide**2) * np.exp(noise * rng.standard_normal(len(GRID)))


@pytest.mark.parametrize(
    ("step", "noise", "slope"), itertools.product(STEPS, (0.0, 0.01, 0.025), (0.0, 0.5)), ids=lambda value: str(value)
)
def test_the_step_that_made_the_curve_is_found(step: int, noise: float, slope: float) -> None:
    slope = slope if step > 4 else 0.0  # half a stair of 4 between two multiples of 4 is even
    found = [find_stairs(GRID, curve(step, noise, seed, slope)) for seed in range(5)]
    assert [stairs.step for stairs in found] == [step] * 5
    assert not any(stairs.doubt for stairs in found)
    if step > 4:
        assert all((stairs.rise_percent or 0) > 2 * stairs.slope_percent for stairs in found)
        assert found[0].edges == tuple(w for w in WIDTHS if w % step == 0)


def test_a_cliff_between_blocks_is_a_stair() -> None:
    """Blocks of 16, twice as slow everywhere else: nobody would use a width that is beaten by a wider one."""
    ms = np.where(GRID % 16 == 0, curve(16), 2 * curve(16))
    assert find_stairs(GRID, ms).step == 16
    odd = np.where(GRID % 4 == 0, curve(16), 1.5 * curve(16))
    stairs = find_stairs(GRID, odd)
    assert stairs.step == 16
    assert stairs.between_percent == pytest.approx(50, abs=1)


def test_a_curve_without_stairs_is_its_own_smooth_curve() -> None:
    np.testing.assert_allclose(smooth_curve(GRID, curve(1)), curve(1), rtol=1e-6)
    assert find_stairs(GRID, curve(1)).error_percent[4] == pytest.approx(0.0, abs=1e-4)


def test_envelope_never_falls() -> None:
    np.testing.assert_array_equal(envelope(np.array([1.0, 5.0, 3.0, 4.0, 2.0, 6.0])), [1, 2, 2, 2, 2, 6])


def test_noise_alone_does_not_steer() -> None:
    ms = np.random.default_rng(0).uniform(0.1, 10.0, len(GRID))
    doubts = [find_stairs(GRID, row).doubt for row in (ms, ms[::-1])]
    assert any(doubts)


@pytest.fixture(scope="module")
def probed() -> WidthSteps:
    widths = (8, 12, 16, 20, 22, 24, 28, 30, 32, 36, 40, 44, 45, 48)
    quantize = lambda model: timing_copy(model, "onnxruntime-x64")  # noqa: E731
    return probe_steps(quick_config(), quantize, widths=widths)


def test_a_real_device_is_probed(probed: WidthSteps) -> None:
    assert {(c.kind, c.precision) for c in probed.curves} == set(
        itertools.product(("conv3x3", "conv1x1"), ("float32", "int8"))
    )
    assert set(probed.steps) == {"float32", "int8"}
    assert all(step is None or step in STEPS for step in probed.steps.values())
    for found in probed.curves:
        ms = {width: value.value for width, value in zip(found.widths, found.ms, strict=True)}
        assert ms[48] > 1.2 * ms[16]  # at least twice the work


def test_results_survive_json(probed: WidthSteps) -> None:
    assert WidthSteps.from_json(json.loads(json.dumps(probed.to_json()))) == probed
    with pytest.raises(CheckpointError):
        WidthSteps.from_json({"schema": "stairs/0"})


def test_one_step_for_several_precisions(probed: WidthSteps) -> None:
    first = probed.curves[0]

    def steps(**found: int | None) -> WidthSteps:
        curves = [
            replace(
                first,
                precision=name,
                stairs=replace(first.stairs, step=step or 1, doubt="" if step else "noisy"),
            )
            for name, step in found.items()
        ]
        return replace(probed, curves=tuple(curves))

    assert steps(float32=16, int8=4).step(["float32"]) == 16
    assert steps(float32=16, int8=4).step(["float32", "int8"]) == 16
    assert steps(float32=16, int8=None).step(["float32", "int8"]) is None
    assert steps(float32=16).step(["int8"]) is None


@pytest.mark.parametrize("kind", KINDS)
def test_probe_networks_are_as_wide_as_they_say(kind: str) -> None:
    model = KINDS[kind](24)
    assert model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 24
    assert all(tensor.dims[0] == 24 for tensor in model.graph.initializer)
