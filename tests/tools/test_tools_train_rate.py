"""The training benchmark compares like with like: its loops by hand take the very steps that the trainer takes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.bench.train_rate import (  # noqa: E402
    IN_TURNS,
    SANDWICHES,
    Work,
    block,
    by_hand,
    elastic_passes,
    extracted,
    ours,
)


@pytest.fixture(scope="module", params=[SANDWICHES, IN_TURNS], ids=["sandwiches", "turns"])
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Work:
    work = Work.of_the_demo(16, tmp_path_factory.mktemp("demo"), request.param)
    config = replace(work.config, batch_size=4, precision="float32", channels_last="always", optimizer="sgd", lr=0.01)
    return replace(work, config=config)


def test_by_hand_takes_the_same_steps(work: Work, tmp_path: Path) -> None:
    work.elastic.load_state(work.start)
    ours(work, 0, tmp_path)
    trained = {name: parameter.detach().clone() for name, parameter in work.elastic.model.named_parameters()}
    work.elastic.load_state(work.start)
    by_hand(work, 0, elastic_passes(work, 0))
    for name, parameter in work.elastic.model.named_parameters():
        assert torch.equal(parameter, trained[name]), name
    assert any(not torch.equal(trained[name], work.start[name]) for name in trained)


def test_extracted_networks_are_those_of_the_step(work: Work) -> None:
    work.elastic.load_state(work.start)
    image, _ = work.split.batch([0, 1])
    for modules, views in list(zip(extracted(work, 1), elastic_passes(work, 1), strict=True))[:2]:
        for module, view in zip(modules, views, strict=True):
            expected = view(image)
            outputs = module.train()(image)
            for task, output in expected.items():
                torch.testing.assert_close(outputs[task], output, rtol=1e-3, atol=1e-4)


def test_a_block_has_all_ways(work: Work, tmp_path: Path) -> None:
    row = block(work, 0, tmp_path, 1)
    assert (
        row["steps"] == 4 * work.config.round
        and row["ours_ms"] > 0
        and row["extracted_ms"] > 0
        and row["elastic_ms"] > 0
    )
    assert row["overhead"] == pytest.approx(100 * (row["ours_ms"] / row["extracted_ms"] - 1), abs=0.5)
