"""The exam of every form of feature distillation: rows of the table are found and examined by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mtnas.base.groups import Selection
from mtnas.base.tables import lookup
from mtnas.elastic.features import FeatureMap
from mtnas.train.config import TrainConfig
from mtnas.train.features.base import FeatureForm
from mtnas.train.features.project import Project, channel_sources
from mtnas.train.features.table import FEATURE_FORMS

WIDTHS = {"a": (2, 4, 8), "b": (3, 6)}
#: a concatenation of group a (8 units), three channels that always stay, and group b (6 units of two channels each)
CONCATENATED = (
    *(("a", u) for u in range(8)),
    None,
    None,
    None,
    *(("b", u) for _ in range(2) for u in range(6)),
)
MAPS = (
    FeatureMap("encoder", 0, (2, 8, 6, 5), tuple(("a", u) for u in range(8))),
    FeatureMap("encoder", 1, (2, 23, 3, 3), CONCATENATED),
    FeatureMap("tokens", 0, (2, 7, 6), tuple(("b", u) for u in range(6))),
)
SELECTION = Selection.of({"a": range(4), "b": range(3)})
FULL = Selection(())


@pytest.fixture(params=sorted(FEATURE_FORMS))
def form(request: pytest.FixtureRequest) -> FeatureForm:
    return lookup(request.param, FEATURE_FORMS, "form")(MAPS, WIDTHS)


def features(seed: int = 0) -> list[Tensor]:
    """What the largest network returns; some energy everywhere, as after a ReLU."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(found.shape, generator=rng).relu() + 0.1 for found in MAPS]


def cut(tensors: list[Tensor], selection: Selection) -> list[Tensor]:
    """The channels that the selection keeps."""
    axes = [2 if tensor.ndim == 3 else 1 for tensor in tensors]
    kept = [torch.from_numpy(found.kept(selection)) for found in MAPS]
    return [tensor.index_select(axis, index) for tensor, axis, index in zip(tensors, axes, kept, strict=True)]


def distance(form: FeatureForm, students: list[Tensor], teachers: list[Tensor], selection: Selection) -> Tensor:
    return form(students, teachers, [found.kept(selection) for found in MAPS])


def test_the_channels_that_stay_are_those_of_the_kept_units() -> None:
    assert MAPS[0].kept(SELECTION).tolist() == [0, 1, 2, 3]
    assert MAPS[1].kept(SELECTION).tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 17, 18, 19]
    assert MAPS[1].kept(Selection.of({"b": [1, 5]})).tolist() == [*range(11), 12, 16, 18, 22]
    assert MAPS[1].kept(FULL).tolist() == list(range(23))


def test_equal_features_are_at_distance_zero(form: FeatureForm) -> None:
    assert float(distance(form, features(), features(), FULL)) == pytest.approx(0, abs=1e-6)


def test_unequal_features_are_not_and_the_distance_is_bounded(form: FeatureForm) -> None:
    students = [-tensor.flip(0, 1, 2) for tensor in features(1)]
    assert 0.01 < float(distance(form, students, features(), FULL)) <= 4.0


def test_narrow_features_are_compared_with_the_same_channels(form: FeatureForm) -> None:
    """Forms that know the channels call the leading part of the teacher equal to it, and another part not."""
    value = float(distance(form, cut(features(), SELECTION), features(), SELECTION))
    assert np.isfinite(value)
    if form.needs_channels and not list(form.parameters()):
        assert value == pytest.approx(0, abs=1e-6)
        other = [tensor.roll(1, 2 if tensor.ndim == 3 else 1) for tensor in features()]
        assert float(distance(form, cut(other, SELECTION), features(), SELECTION)) > 0.5


def test_gradients_reach_the_student_alone(form: FeatureForm) -> None:
    students = [tensor.requires_grad_() for tensor in cut(features(1), SELECTION)]
    teachers = [tensor.requires_grad_() for tensor in features(0)]
    distance(form, students, teachers, SELECTION).backward()
    assert all(tensor.grad is not None and float(tensor.grad.abs().sum()) > 0 for tensor in students)
    assert all(tensor.grad is None for tensor in teachers)


def test_a_step_along_the_gradient_brings_them_closer(form: FeatureForm) -> None:
    students = [tensor.requires_grad_() for tensor in cut(features(1), SELECTION)]
    before = distance(form, students, features(), SELECTION)
    gradients = torch.autograd.grad(before, students)
    moved = [(tensor - 0.5 * gradient).detach() for tensor, gradient in zip(students, gradients, strict=True)]
    assert float(distance(form, moved, features(), SELECTION)) < float(before)


def test_scale_does_not_count(form: FeatureForm) -> None:
    students, teachers = cut(features(1), SELECTION), features(0)
    expected = float(distance(form, students, teachers, SELECTION))
    louder = distance(form, [7.0 * tensor for tensor in students], [0.2 * tensor for tensor in teachers], SELECTION)
    assert float(louder) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_constant_maps_give_finite_gradients(form: FeatureForm, constant: float) -> None:
    students = [torch.full_like(tensor, constant).requires_grad_() for tensor in cut(features(), SELECTION)]
    for teachers in (features(), [torch.full_like(tensor, constant) for tensor in features()]):
        value = distance(form, students, teachers, SELECTION)
        assert torch.isfinite(value)
        assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(value, students))


def test_the_sums_are_float32_under_autocast(form: FeatureForm) -> None:
    """Half-precision features give what the same numbers give in float32, inside autocast too."""
    students = [tensor.bfloat16() for tensor in cut(features(1), SELECTION)]
    teachers = [tensor.bfloat16() for tensor in features(0)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = distance(form, students, teachers, SELECTION)
    plain = distance(form, [t.float() for t in students], [t.float() for t in teachers], SELECTION)
    assert value.dtype == torch.float32 and float(value) == float(plain)


def test_maps_of_a_smaller_input_are_compared_on_the_coarser_grid(form: FeatureForm) -> None:
    """A constant map is the same at every resolution; otherwise the finer one is averaged down."""
    teachers = features()
    students = [t if t.ndim == 3 else torch.nn.functional.adaptive_avg_pool2d(t, (3, 2)) for t in teachers]
    with_pooled_teacher = [*students[:2], teachers[2]]
    value = distance(form, students, teachers, FULL)
    assert float(value) == pytest.approx(float(distance(form, students, with_pooled_teacher, FULL)), abs=1e-6)


def test_every_row_is_a_setting(form: FeatureForm) -> None:
    name = next(name for name in FEATURE_FORMS if isinstance(form, lookup(name, FEATURE_FORMS, "form")))
    assert TrainConfig(feature_distill=name).feature_distill == name


#: units change places among the kept ones of `SELECTION`, and among the others
ORDER = {"a": np.array([2, 0, 3, 1, 7, 6, 4, 5]), "b": np.array([1, 2, 0, 5, 3, 4])}


def test_channels_that_change_places_change_no_distance(form: FeatureForm) -> None:
    """What is learned for them goes along, and so does what the optimizer keeps of it."""
    rng = torch.Generator().manual_seed(3)
    beside = {}
    for parameter in form.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng)
        beside[parameter] = parameter.detach().clone()
    students, teachers = features(1), features(0)
    before = [distance(form, cut(students, own), teachers, own) for own in (SELECTION, FULL)]
    form.moved(ORDER, lambda tensor: [beside[tensor]])
    axes = [2 if tensor.ndim == 3 else 1 for tensor in students]
    sources = [torch.from_numpy(channel_sources(found, ORDER)) for found in MAPS]
    moved = [
        [tensor.index_select(axis, source) for tensor, axis, source in zip(tensors, axes, sources, strict=True)]
        for tensors in (students, teachers)
    ]
    after = [distance(form, cut(moved[0], own), moved[1], own) for own in (SELECTION, FULL)]
    assert [float(value) for value in after] == pytest.approx([float(value) for value in before], rel=1e-5)
    own = {tuple(parameter.shape): parameter for parameter in beside if parameter.shape[1] in (4, 8)}
    assert all(torch.equal(parameter, beside[parameter]) for parameter in own.values())


def test_a_channel_that_is_new_to_a_width_starts_in_its_place() -> None:
    form = Project(MAPS[:1], WIDTHS)
    matrix = form.matrices["0_0_2"]
    matrix.data = torch.arange(16.0).reshape(8, 2) + 1
    kept = torch.ones(8, 2)
    form.moved({"a": np.array([1, 5, 0, 2, 3, 4, 6, 7])}, lambda tensor: [kept] if tensor is matrix else [])
    assert matrix[:, 0].tolist() == [4.0, 12.0, 2.0, 6.0, 8.0, 10.0, 14.0, 16.0]  # unit 1 and its rows
    assert matrix[:, 1].tolist() == [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]  # unit 5
    assert kept[:, 0].all() and not kept[:, 1].any()


def test_sources_of_a_map_with_several_groups() -> None:
    source = channel_sources(MAPS[1], {"b": ORDER["b"]})
    assert source[:11].tolist() == list(range(11))
    assert source[11:17].tolist() == [12, 13, 11, 16, 14, 15] and source[17:].tolist() == [18, 19, 17, 22, 20, 21]
