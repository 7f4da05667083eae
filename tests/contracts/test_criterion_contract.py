"""The exam of every pruning criterion: rows of the table are found and examined by themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "prune"))

import fork_zoo
from prune_subject import forked_elastic, given, zoo_elastic

from mtnas.base.errors import JobError, ModelError
from mtnas.base.groups import ChannelGroup, Selection
from mtnas.elastic.model import ElasticModel
from mtnas.prune.criteria.table import CRITERIA
from mtnas.prune.importance import Importance, importance_of

#: criteria that do not look at the network
BLIND = {"random"}
SEEING = sorted(set(CRITERIA) - BLIND)


@pytest.fixture(scope="module")
def elastic() -> ElasticModel:
    return zoo_elastic("residual")


def same(first: Importance, second: Importance) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("model", ["residual", "unet", "grouped", "flatten", "squeeze_excite"])
def test_one_finite_score_per_unit_of_every_elastic_group(name: str, model: str) -> None:
    subject = zoo_elastic(model)
    found = importance_of(name, given(subject))
    sizes = {group.name: group.size for group in subject.groups if group.elastic}
    assert {group: values.shape for group, values in found.items()} == {g: (size,) for g, size in sizes.items()}
    for values_U in found.values():
        assert values_U.dtype == np.float64 and np.isfinite(values_U).all() and (values_U >= 0).all()
        assert len(set(values_U)) > 1


@pytest.mark.parametrize("name", CRITERIA)
def test_the_same_question_has_the_same_answer(elastic: ElasticModel, name: str) -> None:
    weights = elastic.state()
    assert same(importance_of(name, given(elastic)), importance_of(name, given(elastic)))
    assert all(torch.equal(weights[key], tensor) for key, tensor in elastic.state().items())
    assert all(parameter.grad is None for parameter in elastic.model.parameters())


@pytest.mark.parametrize("name", BLIND)
def test_blind_criteria_follow_their_seed(elastic: ElasticModel, name: str) -> None:
    assert not same(importance_of(name, given(elastic)), importance_of(name, given(elastic, seed=1)))


def kill(elastic: ElasticModel, group: ChannelGroup, unit: int) -> None:
    """Zero everything that produces a unit."""
    state = dict(elastic.model.named_parameters())
    with torch.no_grad():
        for member in group.members:
            if member.role != "in" and member.name in state:
                axis = state[member.name].movedim(member.axis, 0)
                axis[list(member.positions_UK[unit])] = 0.0


@pytest.mark.parametrize("name", SEEING)
@pytest.mark.parametrize("model", ["residual", "unet", "plain"])
def test_a_dead_channel_ranks_last(name: str, model: str) -> None:
    subject = zoo_elastic(model)
    for group in (g for g in subject.groups if g.elastic):
        dead = zoo_elastic(model)
        kill(dead, group, unit=3)
        values_U = importance_of(name, given(dead))[group.name]
        assert values_U[3] == values_U.min(), group.name
        assert values_U[3] <= 1e-6 * values_U.max(), group.name


@pytest.mark.parametrize("name", SEEING)
def test_the_order_of_units_does_not_matter(name: str) -> None:
    plain, shuffled = zoo_elastic("unet"), zoo_elastic("unet")
    rng = np.random.default_rng(3)
    keys = {group.name: rng.permutation(group.size) for group in plain.groups if group.elastic}
    shuffled.sort_channels(keys)
    before, after = importance_of(name, given(plain)), importance_of(name, given(shuffled))
    for group, key_U in keys.items():
        np.testing.assert_allclose(after[group], before[group][np.argsort(-key_U)], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", SEEING)
def test_a_pruned_network_is_judged_by_what_it_keeps(elastic: ElasticModel, name: str) -> None:
    """Units that are gone already must not move the others."""
    group = next(g for g in elastic.groups if g.elastic)
    selection = Selection.of({group.name: range(0, group.size, 2)})
    before = importance_of(name, given(elastic, selection))
    other = zoo_elastic("residual")
    for unit in range(1, group.size, 2):
        kill(other, group, unit)
    after = importance_of(name, given(other, selection))
    for key, values_U in before.items():
        kept = list(selection.as_dict.get(key, range(len(values_U))))
        np.testing.assert_allclose(after[key][kept], values_U[kept], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", SEEING)
def test_what_does_not_run_is_not_judged(name: str) -> None:
    """Options that are not chosen produce and read the same channels as the one that is; so do skipped blocks."""
    subject = forked_elastic(fork_zoo.kernels())
    k7 = {f"middle.{block}.depthwise": "k7" for block in (0, 1)}
    selection = Selection.of({}, skipped=["middle.1"], chosen={fork: "k3" for fork in k7})
    before = importance_of(name, given(subject, selection))
    with torch.no_grad():
        for layer in ("middle.0.depthwise.options.k7.0", "middle.0.depthwise.options.k5.0", "middle.1.project.0"):
            subject.model.get_submodule(layer).weight[:3] *= 100.0
    after = importance_of(name, given(subject, selection))
    for group in (group for group in subject.groups if group.elastic and not selection.lacks(group)):
        np.testing.assert_array_equal(after[group.name], before[group.name])
    assert not same(importance_of(name, given(subject, Selection.of({}, chosen=k7))), before)


def test_names_that_are_none(elastic: ElasticModel) -> None:
    with pytest.raises(JobError, match="did you mean 'taylor'"):
        importance_of("tailor", given(elastic))


@pytest.mark.parametrize("name", SEEING)
def test_weights_that_are_not_numbers(name: str) -> None:
    subject = zoo_elastic("plain")
    with torch.no_grad():
        next(subject.model.parameters())[0] = torch.nan
    with pytest.raises(ModelError, match="finite weights and gradients"):
        importance_of(name, given(subject))
