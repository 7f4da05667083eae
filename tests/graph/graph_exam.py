"""What every elastic graph has to pass, whatever may be chosen in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtnas.base.groups import Selection
from mtnas.elastic.model import ElasticModel
from mtnas.graph.count_model import count_model
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.prove import relative_error, run_model

TOLERANCE = 1e-4


def check_cut(elastic: ElasticModel, graph: ElasticGraph, selection: Selection, picture_BCHW: Tensor) -> None:
    """The cut file is the extracted module, with the graph's weights and with the module's."""
    statistics = elastic.statistics(selection)
    small = elastic.extract(selection, statistics=statistics)
    with torch.no_grad():
        expected = small(picture_BCHW)
    state = {name: tensor.numpy() for name, tensor in small.state_dict().items()}
    for given in (None, state):
        model = graph.cut(selection, state=given, statistics={k: v.numpy() for k, v in statistics.items()})
        found = run_model(model, picture_BCHW.numpy())
        assert list(found) == list(expected)
        for task, output in expected.items():
            assert found[task].shape == tuple(output.shape)
            assert relative_error(found[task], output.numpy()) <= TOLERANCE, (task, selection)


def check_counts(elastic: ElasticModel, graph: ElasticGraph, selection: Selection) -> None:
    """Counts are those of the extracted module and of the cut file, and branches add up to them."""
    counts, file = graph.counts(selection), count_model(graph.cut(selection))
    assert counts.params == sum(parameter.numel() for parameter in elastic.extract(selection).parameters())
    assert counts.macs == file.macs
    assert math.isclose(counts.size_mb, file.size_mb, rel_tol=1e-9)
    assert math.isclose(counts.activation_peak_mb, file.activation_peak_mb, rel_tol=1e-9)
    assert sum(part.macs for part in counts.branches.values()) == counts.macs
    assert sum(part.params for part in counts.branches.values()) == counts.params


def check_answering(elastic: ElasticModel, graph: ElasticGraph, selection: Selection, picture_BCHW: Tensor) -> None:
    """The graph of one task cuts the module of that task; its counts and features are those of that file alone."""
    for task in elastic.tasks:
        alone = graph.answering([task])
        statistics = elastic.statistics(selection, tasks=[task])
        with torch.no_grad():
            expected = elastic.extract(selection, statistics=statistics, tasks=[task])(picture_BCHW)[task]
        model = alone.cut(selection, statistics={k: v.numpy() for k, v in statistics.items()})
        found = run_model(model, picture_BCHW.numpy())
        assert alone.outputs == tuple(found) == (task,)
        assert relative_error(found[task], expected.numpy()) <= TOLERANCE, (task, selection)
        counts, file = alone.counts(selection), count_model(alone.cut(selection))
        assert counts.macs == file.macs and math.isclose(counts.size_mb, file.size_mb, rel_tol=1e-9)
        features = dict(zip(alone.feature_names, alone.features(selection), strict=True))
        whole = dict(zip(graph.feature_names, graph.features(selection), strict=True))
        for name in ("total/macs16", "total/bytes16", "total/weight_bytes"):
            assert 0 < features[name] <= whole[name]
