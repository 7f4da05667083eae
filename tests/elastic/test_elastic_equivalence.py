"""Any selection: run as views = extracted = masked, gradients stay inside, the user's model stays whole."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import zoo
from torch import Tensor, nn

from mtnas.base.groups import Selection, axis_slices
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.encoders.make import make_encoder
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet

OWN = ("resnet", "mobilenet")
NAMES = (*zoo.ZOO, *OWN)


def own_network(encoder_name: str) -> nn.Module:
    """Our encoder with a dense and a pooled head."""
    with torch.random.fork_rng(devices=[]):
        encoder = make_encoder(encoder_name, width=16, depth=(1, 1, 1, 1), in_channels=3)
        channels = [level.channels for level in encoder.levels]
        heads = {
            "depth": make_head("fpn", level_channels=channels, channels=1, width=16, convs=1),
            "presence": make_head("pooled", level_channels=channels, channels=5, width=16, convs=1),
        }
        model = MultiTaskNet(encoder, heads)
    zoo.randomise(model)
    return model.eval()


def network(name: str) -> nn.Module:
    return own_network(name) if name in OWN else zoo.build(name)


@pytest.fixture(scope="module", params=NAMES)
def elastic(request: pytest.FixtureRequest) -> ElasticModel:
    made = make_elastic(network(request.param), zoo.image(), round_to=4)
    made.calibrate_with(lambda: [zoo.image(4, seed=k) for k in range(2)])
    return made


def random_selection(elastic: ElasticModel, rng: np.random.Generator, number: int) -> Selection:
    """Prefix widths of the space and arbitrary subsets, in turn."""
    if number % 2:
        return elastic.selection(elastic.space.sample(rng))
    sizes = {group.name: group.size for group in elastic.groups if group.elastic}
    return Selection.of({n: rng.choice(s, int(rng.integers(1, s + 1)), replace=False) for n, s in sizes.items()})


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert list(a) == list(b)
    with torch.no_grad():
        return max(float((a[t] - b[t]).abs().max() / b[t].abs().max()) for t in a)


def test_extracted_equals_elastic_for_50_selections(elastic: ElasticModel) -> None:
    rng, image = np.random.default_rng(0), zoo.image(2, seed=5)
    for number in range(50):
        selection = random_selection(elastic, rng, number)
        plain = elastic.extract(selection)
        assert not plain.training
        with torch.no_grad():
            assert largest_difference(elastic.run(image, selection), plain(image)) <= 2e-6


def test_the_extracted_module_describes_itself(elastic: ElasticModel) -> None:
    """Its attributes agree with its tensors: a fresh module with these attributes has the same state."""
    rng = np.random.default_rng(1)
    for number in range(6):
        plain = elastic.extract(random_selection(elastic, rng, number))
        for layer in plain.modules():
            if isinstance(layer, nn.Conv2d):
                assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels // layer.groups)
            elif isinstance(layer, nn.ConvTranspose2d):
                assert layer.weight.shape[:2] == (layer.in_channels, layer.out_channels // layer.groups)
            elif isinstance(layer, nn.Linear):
                assert layer.weight.shape == (layer.out_features, layer.in_features)
            elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
                assert layer.weight.shape == layer.running_var.shape == (layer.num_features,)


def test_cut_equals_masked(elastic: ElasticModel) -> None:
    """Removing units = nobody listening to them, at the full network's statistics."""
    rng, image = np.random.default_rng(2), zoo.image(2, seed=6)
    groups = {group.name: group for group in elastic.groups}
    for number in range(6):
        selection = random_selection(elastic, rng, number).compact(elastic.groups)
        masked = copy.deepcopy(elastic.model)
        state = masked.state_dict(keep_vars=True)
        for name, units in selection.kept:
            gone = sorted(set(range(groups[name].size)) - set(units))
            for member in groups[name].members:
                if member.role == "in":
                    positions = torch.tensor([p for u in gone for p in member.positions_UK[u]])
                    with torch.no_grad():
                        state[member.name].index_fill_(member.axis, positions, 0.0)
        slices = axis_slices(elastic.groups, selection, {n: t.shape for n, t in state.items()})
        statistics = {
            name: tensor[slices[name][0]] if name in slices else tensor for name, tensor in elastic.statistics().items()
        }
        with torch.no_grad():
            cut = elastic.run(image, selection, statistics=statistics)
            assert largest_difference(cut, masked(image)) <= 1e-4


def test_gradients_outside_the_slice_are_exactly_zero(elastic: ElasticModel) -> None:
    rng = np.random.default_rng(3)
    state = {name: t for name, t in elastic.model.named_parameters(remove_duplicate=False)}
    shapes = {name: t.shape for name, t in elastic.model.state_dict().items()}
    for number in range(4):
        selection = random_selection(elastic, rng, number).compact(elastic.groups)
        elastic.model.zero_grad()
        outputs = elastic.run(zoo.image(4, seed=7), selection, training=True)
        sum(output.square().mean() for output in outputs.values()).backward()
        slices = axis_slices(elastic.groups, selection, shapes)
        reached = 0
        for name, parameter in state.items():
            inside = torch.ones(parameter.shape, dtype=torch.bool)
            for axis, kept in slices.get(name, {}).items():
                gone = np.setdiff1d(np.arange(parameter.shape[axis]), kept)
                inside.index_fill_(axis, torch.from_numpy(gone), False)
            assert parameter.grad is not None
            assert not parameter.grad[~inside].any()
            reached += int((parameter.grad[inside] != 0).any())
        assert reached > len(state) // 2
    elastic.model.zero_grad()


def test_sorting_keeps_the_function(elastic: ElasticModel) -> None:
    image = zoo.image(2, seed=8)
    made = copy.deepcopy(elastic)
    before = made.run(image)
    rng = np.random.default_rng(4)
    importance = {group.name: rng.random(group.size) for group in made.groups}
    old = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    made.sort_channels(importance)
    assert largest_difference(made.run(image), before) <= 1e-5
    moved = [name for name, tensor in made.model.state_dict().items() if not torch.equal(tensor, old[name])]
    assert len(moved) > len(old) // 3


def test_the_prefix_after_sorting_is_the_best_subset_before(elastic: ElasticModel) -> None:
    """Keeping the k most important units and keeping the sorted prefix of k is the same network."""
    rng, image = np.random.default_rng(5), zoo.image(2, seed=9)
    importance = {group.name: rng.random(group.size) for group in elastic.groups if group.elastic}
    widths = {name: max(1, scores.size // 2) for name, scores in importance.items()}
    best = Selection.of({name: np.argsort(-scores)[: widths[name]] for name, scores in importance.items()})
    made = copy.deepcopy(elastic)
    made.sort_channels(importance)
    assert largest_difference(elastic.run(image, best), made.run(image, Selection.prefix(widths))) <= 1e-4


def test_training_passes_touch_nothing_stored(elastic: ElasticModel) -> None:
    before = elastic.state()
    flags = [(layer.training, getattr(layer, "track_running_stats", None)) for layer in elastic.model.modules()]
    for selection in (None, elastic.selection(elastic.space.smallest)):
        elastic.run(zoo.image(4), selection, training=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in elastic.state().items())
    assert flags == [(m.training, getattr(m, "track_running_stats", None)) for m in elastic.model.modules()]


@pytest.mark.parametrize("name", NAMES)
def test_the_users_model_is_untouched(name: str) -> None:
    model = network(name).train()
    for parameter in list(model.parameters())[:2]:
        parameter.requires_grad_(False)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    keys = [sorted(layer.__dict__) for layer in model.modules()]
    made = make_elastic(model, zoo.image(), round_to=4)
    made.run(zoo.image(), made.selection(made.space.smallest), training=True)
    made.sort_channels()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert keys == [sorted(layer.__dict__) for layer in model.modules()]
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [p.requires_grad for p in made.model.parameters()] == [p.requires_grad for p in model.parameters()]


def test_full_selection_is_the_original_network(elastic: ElasticModel) -> None:
    image = zoo.image(2, seed=3)
    with torch.no_grad():
        assert largest_difference(elastic.run(image), elastic.model(image)) == 0
        whole = elastic.selection(elastic.space.largest)
        assert whole == Selection.of({})
        assert largest_difference(elastic.extract(whole)(image), elastic.model(image)) == 0
