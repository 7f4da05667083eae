"""Heads of attention as units: what goes with a head, and what may not shrink and why."""

from __future__ import annotations

import pytest
import torch
import zoo
from torch import nn

from mtnas.base.groups import ChannelGroup, Selection
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.encoders.table import ATTENTIONS
from mtnas.encoders.vit import ViT
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.count_model import count_model
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet
from mtnas.space.rules import SpaceRules

HEADS, HEAD_CHANNELS, CHANNELS, SIDE = 4, 12, 48, 64
FIRST = "encoder.stages.0.0"


def network(attention: str) -> nn.Module:
    """Three blocks on 16 tokens of 48 channels."""
    encoder = ViT(width=16, depth=(1, 1, 1), attention=attention, head_channels=HEAD_CHANNELS, expansion=2)
    head = make_head("pooled", level_channels=[level.channels for level in encoder.levels], channels=3, width=16)
    model = MultiTaskNet(encoder, {"label": head})
    zoo.randomise(model)
    return model.eval()


def elastic_of(attention: str) -> ElasticModel:
    elastic = make_elastic(network(attention), zoo.image(2, SIDE), round_to=4)
    elastic.calibrate_with(lambda: [zoo.image(4, SIDE, seed=9)])
    return elastic


def group(elastic: ElasticModel, name: str) -> ChannelGroup:
    return next(found for found in elastic.groups if found.name == name)


@pytest.mark.parametrize(
    ("attention", "layers"),
    [("multi_head", ("query", "key", "value", "output")), ("multi_query", ("query", "output"))],
)
def test_a_head_is_its_rows_and_its_columns(attention: str, layers: tuple[str, ...]) -> None:
    found = group(elastic_of(attention), f"{FIRST}.query")
    assert (found.size, found.frozen) == (HEADS, "")
    assert {member.name.removeprefix(f"{FIRST}.").partition(".")[0] for member in found.members} == set(layers)
    for member in found.members:
        assert member.axis == int(member.name == f"{FIRST}.output.weight")
        assert member.positions_UK == tuple(
            tuple(range(head * HEAD_CHANNELS, (head + 1) * HEAD_CHANNELS)) for head in range(HEADS)
        )


def test_what_may_not_shrink_says_why() -> None:
    elastic = elastic_of("multi_query")
    assert "LayerNorm normalises over its channels" in group(elastic, "encoder.stem.tokens.0").frozen
    for name in ("key", "value"):
        assert group(elastic, f"{FIRST}.{name}").frozen == "they span one head of attention"


def test_head_counts_are_options_in_heads() -> None:
    choices = {choice.name: choice.options for choice in elastic_of("multi_head").space.choices}
    assert choices[f"{FIRST}.query"] == (1, 2, 3, 4)


def test_heads_of_every_kind_are_elastic_where_attention_is_chosen() -> None:
    rules = SpaceRules(operators=True)
    elastic = make_elastic(network("choice"), zoo.image(2, SIDE), round_to=4, rules=rules, prove=False)
    assert elastic.open_forks[0].options == ("multi_query", "multi_head")
    for kind in ATTENTIONS:
        found = group(elastic, f"{FIRST}.options.{kind}.query")
        assert (found.size, found.frozen) == (HEADS, "")
        assert elastic.space.by_name[found.name].options == (1, 2, 3, 4)


@pytest.mark.parametrize("attention", ["multi_head", "multi_query"])
def test_work_of_attention_in_closed_form(attention: str) -> None:
    """Scores and sums over tokens: 2 N^2 D per head; with C channels, N C D per head for each linear layer."""
    elastic = elastic_of(attention)
    graph = build_elastic_graph(elastic.model, elastic.example, elastic.groups)
    tokens, full = (SIDE // 16) ** 2, Selection.of({})
    kept = {f"{FIRST}.query": [1, 3], "encoder.stages.1.1.expand": [0, 5, 7]}
    fewer = graph.counts(full).macs - graph.counts(Selection.of(kept)).macs
    layers = 4 if attention == "multi_head" else 2
    heads = 2 * (layers * tokens * CHANNELS * HEAD_CHANNELS + 2 * tokens**2 * HEAD_CHANNELS)
    assert fewer == heads + 2 * tokens * CHANNELS * (2 * CHANNELS - 3)
    assert graph.counts(Selection.of(kept)).macs == count_model(graph.cut(Selection.of(kept))).macs


def test_gradients_of_absent_heads_are_zero() -> None:
    elastic = elastic_of("multi_head")
    outputs = elastic.run(zoo.image(2, SIDE), Selection.of({f"{FIRST}.query": [0, 2]}), training=True)
    outputs["label"].square().sum().backward()
    layer = elastic.model.get_submodule(FIRST)
    gone = torch.zeros(HEADS, dtype=torch.bool)
    gone[[1, 3]] = True
    gradients = [layer.query.weight.grad, layer.key.weight.grad, layer.value.weight.grad, layer.output.weight.grad.T]
    for gradient in gradients:
        by_head = gradient.unflatten(0, (HEADS, HEAD_CHANNELS))
        assert (by_head[gone] == 0).all() and (by_head[~gone] != 0).any()
