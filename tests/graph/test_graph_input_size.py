"""Another input size: a cut is what torch computes at that size, or the size is refused."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
import zoo
from graph_pairs import pair_of
from torch import Tensor, nn

from mtnas.base.errors import ModelError
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.count_model import count_model
from mtnas.graph.prove import random_selection, relative_error, run_model
from mtnas.graph.regroup import Shape, regroup

TOLERANCE = 1e-4
SIDE = zoo.SIDE


OURS = ("resnet+fpn", "mobilenet+pooled", "vit+fpn", "vit+pooled")
FOREIGN = ("residual", "squeeze_excite", "unet", "high_resolution", "other_norms", "unusual", "shared_tower")


def picture(size: tuple[int, int]) -> Tensor:
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("size", [(2 * SIDE, 2 * SIDE), (SIDE, 3 * SIDE), (SIDE // 2, SIDE)])
@pytest.mark.parametrize("name", [*FOREIGN, *OURS])
def test_a_cut_at_another_size_is_torch_at_that_size(name: str, size: tuple[int, int]) -> None:
    elastic, graph = pair_of(name)
    rng = generator(0, "input size")
    for selection in (Selection.of({}), random_selection(graph, rng), random_selection(graph, rng)):
        statistics = elastic.statistics(selection)
        small = elastic.extract(selection, statistics=statistics)
        with torch.no_grad():
            expected = small(picture(size))
        cut = graph.cut(selection, statistics={k: v.numpy() for k, v in statistics.items()}, input_size=size)
        onnx.checker.check_model(cut, full_check=True)
        found = run_model(cut, picture(size).numpy())
        for task, output in expected.items():
            assert found[task].shape == tuple(output.shape)
            assert relative_error(found[task], output.numpy()) <= TOLERANCE


def test_the_same_as_a_fresh_export_at_that_size() -> None:
    elastic, graph = pair_of("high_resolution")
    fresh = build_elastic_graph(elastic.model, picture((48, 80)), elastic.groups)
    selection = random_selection(graph, generator(1, "fresh"))
    image_BCHW = picture((48, 80)).numpy()
    wanted = run_model(fresh.cut(selection), image_BCHW)
    for task, output in run_model(graph.cut(selection, input_size=(48, 80)), image_BCHW).items():
        assert relative_error(output, wanted[task]) <= TOLERANCE
    assert graph.at_input_size((48, 80)).counts(selection) == fresh.counts(selection)
    assert np.allclose(graph.at_input_size((48, 80)).features(selection).sum(), fresh.features(selection).sum())


def test_adaptive_pooling_in_front_of_a_linear_layer_keeps_its_output_size() -> None:
    elastic, graph = pair_of("flatten")
    size = (2 * SIDE, SIDE)
    with torch.no_grad():
        expected = elastic.extract(Selection.of({}))(picture(size))
    cut = graph.cut(Selection.of({}), statistics=None, input_size=size)
    found = run_model(cut, picture(size).numpy())
    assert all(relative_error(found[k], v.numpy()) <= TOLERANCE for k, v in expected.items())
    pool = next(node for node in cut.graph.node if node.op_type == "AveragePool")
    assert {a.name: list(a.ints) for a in pool.attribute}["kernel_shape"] == [4, 2]


def test_sizes_out_of_proportion_follow_what_the_result_meets() -> None:
    """A feature pyramid adds maps, which decides; only the last Resize, to the image's size, stays undecided."""
    _, graph = pair_of("resnet+fpn")
    with pytest.raises(ModelError, match=r"(?s)46x62.*times a whole number"):
        graph.cut(Selection.of({}), input_size=(46, 62))
    elastic, unet = pair_of("shared_tower")
    size = (SIDE + 2, SIDE + 6)  # half of them is odd: 17 and 19, then 9 and 10
    with torch.no_grad():
        expected = elastic.extract(Selection.of({}))(picture(size))
    found = run_model(unet.cut(Selection.of({}), input_size=size), picture(size).numpy())
    assert all(relative_error(found[k], v.numpy()) <= TOLERANCE for k, v in expected.items())


class Baked(nn.Module):
    """What cannot be resized: a position table, flattening without pooling, a crop, a pooled pyramid."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem = zoo.conv_bn(3, 16, 3, 2)
        self.table = nn.Parameter(torch.randn(1, 16, SIDE // 2, SIDE // 2))
        self.linear = nn.Linear(16 * (SIDE // 2) ** 2, 4)
        self.depth = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        if self.how == "table":
            return {"depth": self.depth(x + self.table)}
        if self.how == "flatten":
            return {"label": self.linear(x.flatten(1))}
        if self.how == "crop":
            return {"depth": self.depth(x[:, :, 1 : SIDE // 2 - 1])}
        return {"depth": zoo.upsample(self.depth(torch.nn.functional.adaptive_avg_pool2d(x, 4)), x)}


@pytest.mark.parametrize("how", ["table", "flatten", "crop", "pyramid"])
def test_a_baked_size_is_refused(how: str) -> None:
    model = Baked(how)
    zoo.randomise(model)
    elastic = make_elastic(model.eval(), zoo.image(), round_to=4)
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    graph = build_elastic_graph(elastic.model, elastic.example, elastic.groups)
    with pytest.raises(ModelError, match="64x64"):
        graph.cut(Selection.of({}), input_size=(2 * SIDE, 2 * SIDE))


def test_counts_and_cuts_agree_and_a_size_is_worked_out_once() -> None:
    _, graph = pair_of("unet")
    big = graph.at_input_size((2 * SIDE, 2 * SIDE))
    assert graph.at_input_size((2 * SIDE, 2 * SIDE)) is big and graph.at_input_size((SIDE, SIDE)) is graph
    assert big.at_input_size((SIDE, SIDE)).input_shape == graph.input_shape
    everything = Selection.of({})
    assert big.counts(everything).macs == count_model(big.cut(everything)).macs == 4 * graph.counts(everything).macs
    assert math.isclose(big.counts(everything).size_mb, graph.counts(everything).size_mb)


@pytest.mark.parametrize(
    ("old", "new", "result", "entries", "expected"),
    [
        ((2, 16, 8, 8), (2, 16, 4, 6), (2, 16, 64), (0, 0, -1), (2, 16, 24)),
        ((2, 16, 8, 8), (2, 16, 4, 6), (2, 4, 256), (0, 4, 256), (2, 4, 96)),
        ((2, 16, 8, 8), (2, 16, 4, 6), (2, 4, 4, 8, 8), (0, 4, 4, 8, 8), (2, 4, 4, 4, 6)),
        ((2, 4, 8, 2, 8, 2), (2, 4, 4, 2, 6, 2), (2, 4, 16, 16), (0, 4, 16, 16), (2, 4, 8, 12)),
        ((2, 64, 5), (2, 24, 5), (2, 8, 8, 5), (0, 8, 8, 5), None),
        ((2, 16, 1, 1), (2, 16, 1, 1), (2, 16), (0, 0), (2, 16)),
        ((2, 16, 1, 1), (2, 16, 2, 2), (2, 16), (0, 0), None),
    ],
)
def test_reshapes_follow_runs_of_axes(
    old: Shape, new: Shape, result: Shape, entries: Shape, expected: Shape | None
) -> None:
    assert regroup(old, new, result, entries) == expected
