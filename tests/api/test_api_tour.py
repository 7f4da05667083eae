"""The whole way in Python, on a user's own network: every public function, in the order a user types them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from api_subject import QUICK, TASKS, TRAIN, example, modes, same, state_of, user_data, user_model
from torch import nn

import mtnas
from mtnas.prune.config import PruneConfig
from mtnas.quantize.config import QuantizeConfig
from mtnas.score.score import primary, score
from mtnas.search.trial import Trial


def test_the_whole_way(tmp_path: Path) -> None:
    data, model, inputs = user_data(), user_model(), example()
    before, mode = state_of(model), modes(model)

    elastic = mtnas.make_elastic(model, inputs, round_to=8, ignored_layers=["down1.0"])
    summary = str(elastic.summary())
    assert "down3.0" in summary and "is output 'edges'" in summary

    trained = mtnas.train(elastic, TASKS, data, config=TRAIN)
    assert trained.steps == 3 * 4 and set(trained.losses) == {*TASKS, "total"}

    profile = mtnas.profile(elastic, device="local-ort", config=QUICK)
    assert 0 < profile.smallest.value < profile.full.value and "10 networks measured" in str(profile)

    budget = {"latency_ms": "97%"}  # such small networks differ little in time
    floors = {"segmentation": "-95%"}
    front = mtnas.search(elastic, TASKS, data, profile, budget=budget, floors=floors, trials=8)
    chosen = front.pick(budget={"latency_ms": 1000.0}, preference={"segmentation": 2, "edges": 1})
    assert isinstance(chosen, Trial) and chosen.feasible
    latency = chosen.outcome.costs["latency_ms"]
    assert latency.kind == "measured" and latency.value <= 0.97 * profile.full.value

    small = elastic.extract(chosen)
    by_arch, by_selection = elastic.extract(chosen.arch), elastic.extract(elastic.selection(chosen))
    assert isinstance(small, nn.Module) and same(state_of(small), by_arch) and same(state_of(small), by_selection)
    tasks = mtnas.make_tasks(TASKS, data)
    small_state = state_of(small)

    def score_fn(network: nn.Module) -> dict[str, float]:
        return primary(score(network, tasks, data.split("select")), tasks)

    pruned, result = mtnas.prune(
        small,
        inputs,
        score=score_fn,
        budget={"latency_ms": "95%"},
        profile=profile,
        config=PruneConfig(criterion="l1", step=4, min_units=4, max_steps=3),
    )
    assert result.scores_before == pytest.approx(score_fn(small))
    assert result.scores_after == pytest.approx(score_fn(pruned))
    assert 1 <= len(result.steps) <= 3 and result.kept in {"pruned", "original"}
    assert same(small_state, small)

    tuned, fit = mtnas.finetune(pruned, TASKS, data, teacher=small, epochs=1)
    assert fit.epochs == 1 and not same(state_of(pruned), tuned) and not tuned.training

    quantization = mtnas.quantize(tuned, inputs, tasks=TASKS, data=data, profile=profile, config=loose())
    _file, quantized = quantization
    assert quantized.delivered in {"int8", "float"} and quantized.report.int8_nodes > 0

    exported = mtnas.export(quantization, inputs, tmp_path, tasks=TASKS, data=data)
    assert exported.path == tmp_path / "model.onnx" and (tmp_path / "manifest.json").exists()
    assert [output.activation for output in exported.manifest.outputs] == ["softmax", "sigmoid"]
    assert exported.manifest.input.mean == pytest.approx(data.info.mean)

    verdict = mtnas.verify(
        exported, tuned, tasks=TASKS, data=data, budget={"latency_ms": "1000%", "macs": "100%"}, profile=profile
    )
    verdict.require()
    assert verdict.passed and verdict.met and verdict.certificate is not None
    assert [limit.name for limit in verdict.certificate.limits] == ["latency_ms", "macs"]
    assert all(head.metrics.keys() == {"torch", "onnx", "delivered"} for head in verdict.heads.heads)

    assert same(before, model) and modes(model) == mode
    with torch.no_grad():
        assert set(tuned(inputs)) == set(TASKS)


def loose() -> QuantizeConfig:
    """Networks of three training steps have scores that mean nothing."""
    return QuantizeConfig(max_drop_percent=1000.0, images=16)
