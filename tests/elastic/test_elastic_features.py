"""Features: where the shared part ends, and which channels of it a selection keeps, on networks never seen before."""

from __future__ import annotations

import copy

import depth_zoo
import numpy as np
import pytest
import torch
import zoo
from torch import Tensor, nn

from mtnas.base.errors import ModelError
from mtnas.base.groups import Selection
from mtnas.elastic.features import feature_maps, trace_channels
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.elastic.task_subset import TaskSubset
from mtnas.elastic.trunk import check_modules, find_trunk, tensors_in, watching, with_tensors
from mtnas.space.rules import SpaceRules

#: Network -> the modules that hand its shared part over.
TRUNKS = {
    "plain": ("act",),
    "residual": ("stages",),
    "stacked": ("fine.2",),
    "depthwise": ("blocks",),
    "squeeze_excite": ("second",),
    "grouped": ("quarters",),
    "unet": ("fuse1",),
    "high_resolution": ("branch3", "mix"),
    "shared": ("level1", "level2"),
    "flatten": ("body",),
    "other_norms": ("body",),
    "unusual": (),
    "shared_tower": ("fine", "lateral_coarse"),
}


def made(name: str) -> ElasticModel:
    return make_elastic(depth_zoo.network(name), zoo.image(), round_to=4)


def trunk(elastic: ElasticModel) -> tuple[str, ...]:
    network = copy.deepcopy(elastic.model).requires_grad_(True)
    return find_trunk(network, elastic.example, elastic.parameter_owners)


def features(elastic: ElasticModel, model: nn.Module, modules: tuple[str, ...]) -> list[Tensor]:
    with watching(model, modules) as found, torch.no_grad():
        model(elastic.example)
    return [tensor for name in modules for output in found[name] for tensor in tensors_in(output)]


def masked(elastic: ElasticModel, selection: Selection) -> nn.Module:
    """The full network, of which nobody listens to the channels that the selection removes."""
    model = copy.deepcopy(elastic.model)
    state, kept = model.state_dict(), selection.as_dict
    for group in (group for group in elastic.groups if group.name in kept):
        gone = sorted(set(range(group.size)) - set(kept[group.name]))
        for member in (member for member in group.members if member.role == "in"):
            positions = [position for u in gone for position in member.positions_UK[u]]
            state[member.name].index_fill_(member.axis, torch.tensor(positions, dtype=torch.long), 0.0)
    return model


@pytest.mark.parametrize("name", TRUNKS)
def test_the_shared_part_ends_where_tasks_part(name: str) -> None:
    assert trunk(made(name)) == TRUNKS[name]


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_our_own_networks_end_with_the_encoder(name: str) -> None:
    assert trunk(made(name)) == ("encoder",)


@pytest.mark.parametrize("name", [name for name in TRUNKS if TRUNKS[name]] + ["resnet", "mobilenet"])
def test_kept_channels_are_those_of_the_masked_network(name: str) -> None:
    """For arbitrary units, a cut network's feature is the masked network's feature at the channels told."""
    elastic = made(name)
    modules = TRUNKS.get(name, ("encoder",))
    maps = trace_channels(elastic, modules)
    assert [found.refused for found in maps] == [""] * len(maps)
    rng = np.random.default_rng(0)
    for _ in range(3):
        sizes = {group.name: group.size for group in elastic.groups if group.elastic}
        units = {n: rng.choice(size, int(rng.integers(1, size + 1)), replace=False) for n, size in sizes.items()}
        selection = Selection.of(units).compact(elastic.groups)
        small = elastic.extract(selection, statistics=elastic._cut_buffers(selection, TaskSubset()))
        cut, full = features(elastic, small, modules), features(elastic, masked(elastic, selection), modules)
        for found, own, whole in zip(maps, cut, full, strict=True):
            expected = whole.index_select(1, torch.from_numpy(found.kept(selection)))
            torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-4)


def test_a_concatenation_and_a_sum_belong_to_all_their_groups() -> None:
    class Fused(nn.Module):
        """Concatenates a sum of two branches with a third, and one channel of the image."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, count, 3, padding=1) for count in (8, 8, 12))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.c(x), x[:, :1], (self.a(x) + self.b(x)).relu()], 1)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.near, self.far = Fused(), nn.Conv2d(21, 1, 1), nn.Conv2d(21, 1, 1)

        def forward(self, image: Tensor) -> dict[str, Tensor]:
            x = self.trunk(image)
            return {"near": self.near(x), "far": self.far(x)}

    elastic = make_elastic(Net(), zoo.image(), round_to=4)
    assert trunk(elastic) == ("trunk",)
    found = trace_channels(elastic, ("trunk",))[0]
    expected = [*(("trunk.c", u) for u in range(12)), None, *(("trunk.a", u) for u in range(8))]
    assert list(found.units_C) == expected and not found.refused


def test_skipped_blocks_leave_the_features_where_they_are() -> None:
    elastic = make_elastic(depth_zoo.network("resnet"), zoo.image(), round_to=4, rules=SpaceRules(depth=True))
    smallest = elastic.selection(elastic.space.smallest)
    assert smallest.skipped
    maps = trace_channels(elastic, ("encoder",))
    with watching(elastic.model, ("encoder",)) as seen, torch.no_grad():
        elastic.run(zoo.image(4), smallest, training=True)
    tensors = tensors_in(seen["encoder"][0])
    assert [tensor.shape[1] for tensor in tensors] == [len(found.kept(smallest)) for found in maps]
    assert [tensor.shape[1] for tensor in tensors] != [found.channels for found in maps]


def test_a_module_that_runs_twice_has_no_known_channels() -> None:
    maps = trace_channels(made("shared_tower"), ("tower",))
    assert [found.refused for found in maps] == ["tower runs 2 times in one forward"] * 2


def test_tensors_that_follow_no_group_are_refused() -> None:
    """A module that turns channels into tokens (B,C,N): the last axis is not the one that shrinks."""

    class Tokens(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.tokens = zoo.conv_bn(3, 16, 3, 4), Tokens()
            self.near, self.far = nn.Conv2d(16, 1, 1), nn.Conv2d(16, 1, 1)

        def forward(self, image: Tensor) -> dict[str, Tensor]:
            x = self.tokens(self.stem(image)).unflatten(2, (8, 8))
            return {"near": self.near(x), "far": self.far(x)}

    elastic = make_elastic(Net(), zoo.image(), round_to=4)
    assert any(group.elastic for group in elastic.groups)
    assert trace_channels(elastic, ("tokens",))[0].refused


def test_maps_are_named_by_module_and_place() -> None:
    maps = feature_maps(made("resnet"), ("encoder",))
    assert [found.name for found in maps] == ["encoder/0", "encoder/1", "encoder/2"]
    assert [found.shape for found in maps] == [(2, 16, 8, 8), (2, 32, 4, 4), (2, 48, 2, 2)]


def test_outputs_of_every_kind_are_taken_apart_and_put_together_again() -> None:
    a, b = torch.ones(1), torch.zeros(2)
    output = {"x": a, "rest": [b, (a, 3, torch.ones(1, dtype=torch.long))]}
    assert [tensor.shape for tensor in tensors_in(output)] == [(1,), (2,), (1,)]
    doubled = with_tensors(output, lambda tensor: tensor * 2)
    assert float(doubled["x"]) == 2 and doubled["rest"][1][1:] == (3, torch.ones(1, dtype=torch.long))


def test_a_name_that_is_wrong_is_told_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"did you mean 'encoder'\?"):
        check_modules(made("resnet").model, ("encoders",), "train.features")
