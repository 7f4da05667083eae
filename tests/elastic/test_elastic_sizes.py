"""Input sizes: which are found and which refused, and that a network at a smaller size is the same in all forms."""

from __future__ import annotations

import copy

import depth_zoo
import pytest
import torch
import torch.nn.functional as F
import zoo
from torch import Tensor, nn

from mtnas.base.errors import ModelError, SpaceError
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.elastic.resize import Resizing
from mtnas.elastic.sizes import stride_of
from mtnas.space.rules import SpaceRules

RULES = SpaceRules(resolution=(0.5, 0.75, 1.0))


def picture(batch: int = 2, height: int = 32, width: int = 48, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def large(batch: int = 2, seed: int = 0) -> Tensor:
    return picture(batch, 64, 96, seed)


@pytest.fixture(scope="module", params=["residual", "plain", "resnet"])
def elastic(request: pytest.FixtureRequest) -> ElasticModel:
    rules = SpaceRules(depth=True, resolution=RULES.resolution)
    made = make_elastic(depth_zoo.network(request.param), large(), round_to=4, rules=rules)
    made.calibrate_with(lambda: [large(4, seed=k) for k in range(2)])
    return made


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert list(a) == list(b) and all(a[task].shape == b[task].shape for task in a)
    return max(float((a[t] - b[t]).detach().abs().max() / b[t].detach().abs().max()) for t in a)


# --- the resize itself ------------------------------------------------------------------------------------------------


def test_half_of_an_image_is_the_mean_of_its_blocks() -> None:
    image, resizing = picture(), Resizing((32, 48), (16, 24), ("depth",))
    blocks = image.reshape(2, 3, 16, 2, 24, 2).mean((3, 5))
    assert torch.allclose(resizing.shrink(image), blocks, atol=1e-6)


def test_other_shares_are_bilinear_between_pixel_centres() -> None:
    ramp = torch.arange(48.0).expand(1, 1, 32, 48)
    small = Resizing((32, 48), (24, 36), ()).shrink(ramp)
    centres = (torch.arange(36.0) + 0.5) * 48 / 36 - 0.5
    assert torch.allclose(small[0, 0, 5], centres, atol=1e-4)
    mixed = Resizing((32, 48), (16, 36), ()).shrink(ramp)  # each axis by its own factor
    assert mixed.shape[2:] == (16, 36) and torch.allclose(mixed[0, 0, 3], centres, atol=1e-4)


def test_factors_beyond_two_average_first() -> None:
    """Every pixel counts: plain interpolation by 2.5 would read two of five."""
    image = picture(1, 40, 40)
    small = Resizing((40, 40), (16, 16), ()).shrink(image)
    expected = F.interpolate(F.avg_pool2d(image, 2), size=(16, 16), mode="bilinear", align_corners=False)
    assert torch.equal(small, expected)


def test_a_smooth_output_comes_back() -> None:
    resizing = Resizing((32, 48), (16, 24), ("depth",))
    ramp = torch.linspace(0, 1, 48).expand(1, 1, 32, 48)
    back = resizing.enlarge({"depth": resizing.shrink(ramp), "label": torch.ones(1, 5)})
    assert torch.allclose(back["depth"][..., 1:-1], ramp[..., 1:-1], atol=1e-5)
    assert back["label"].shape == (1, 5)


def test_images_of_another_size_are_resized_by_the_same_share() -> None:
    resizing = Resizing((32, 48), (24, 40), ())
    assert resizing.shrink(picture(1, 64, 96)).shape[2:] == (48, 80)
    with pytest.raises(ModelError, match="24x40 of 32x48"):
        resizing.shrink(picture(1, 33, 48))


# --- finding ----------------------------------------------------------------------------------------------------------


def test_sizes_are_a_choice_of_all_tasks(elastic: ElasticModel) -> None:
    choice = elastic.space.choices[-1]
    assert choice.kind == "resolution" and choice.name == "input" and set(choice.owners) == set(elastic.tasks)
    assert choice.options[0] == "32x48" and choice.options[-1] == "64x96" and len(choice.options) == 3
    assert not elastic.inputs.refused
    assert elastic.selection(elastic.space.largest) == Selection.of({})
    assert elastic.selection(elastic.space.smallest).size == (32, 48)


def test_without_resolution_there_is_no_such_choice() -> None:
    made = make_elastic(zoo.build("plain"), picture(), prove=False)
    assert all(choice.kind == "width" for choice in made.space.choices) and made.inputs.sizes == ()
    with pytest.raises(SpaceError, match="a space that has resolution"):
        made.run(picture(), Selection.of({}, (), (16, 24)))


def test_a_size_alone_is_something_to_choose() -> None:
    model = zoo.build("plain")
    made = make_elastic(model, picture(), rules=RULES, ignored_layers=list(model.children()))
    assert [choice.name for choice in made.space.choices] == ["input"]
    with pytest.raises(ModelError, match="at least one group"):
        make_elastic(model, picture(), ignored_layers=list(model.children()))


@pytest.mark.parametrize(
    ("image", "length", "stride"), [(97, 49, 2), (97, 25, 4), (240, 8, 32), (32, 32, 1), (9, 3, 3)]
)
def test_strides_are_those_of_the_layers(image: int, length: int, stride: int) -> None:
    assert stride_of(image, length) == stride


class Around(nn.Module):
    """A stem, and something after it that may not like other sizes."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = zoo.conv_bn(3, 8, 3, 2)
        self.place = nn.Parameter(torch.randn(1, 8, 16, 24))
        self.flat = nn.Linear(8 * 16 * 24, 4)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        if self.kind == "flat":
            return {"label": self.flat(x.flatten(1)), "depth": self.out(x)}
        if self.kind == "place":
            return {"depth": self.out(x + self.place)}
        if self.kind == "tokens":
            return {"tokens": self.out(x).flatten(2)}
        if self.kind == "grid":
            return {"heat": F.adaptive_avg_pool2d(self.out(x), (4, 4))}
        return {"depth" if x.shape[2] > 14 else "other": self.out(x)}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("flat", "its forward fails"),
        ("place", "its forward fails"),
        ("tokens", r"output 'tokens' of shape \(2, 1, 384\) becomes"),
        ("grid", "output 'heat'"),
        ("names", "its outputs become other"),
    ],
)
def test_a_network_that_has_its_size_built_in_keeps_it(kind: str, reason: str) -> None:
    made = make_elastic(Around(kind).eval(), picture(), rules=RULES, round_to=4)
    assert made.inputs.sizes == () and all(choice.kind != "resolution" for choice in made.space.choices)
    assert [size for size, _ in made.inputs.refused] == [(16, 24), (24, 36)]
    text, rows = str(made.summary()), made.summary().to_json()["input_sizes"]
    assert "16x24" in text and "refused: " in text
    for row in rows[:2]:
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(row["refused"])
    assert rows[2] == {"size": "32x48", "refused": ""}


# --- one network, made in several ways --------------------------------------------------------------------------------


def by_hand(elastic: ElasticModel, selection: Selection, image: Tensor) -> dict[str, Tensor]:
    """The extracted network of the same units at the full size, given small images, its outputs enlarged."""
    assert selection.size is not None
    statistics = elastic.statistics(selection)
    whole = Selection.of(selection.as_dict, selection.skipped)
    small = F.interpolate(image, size=selection.size, mode="bilinear", align_corners=False)
    if selection.size == (32, 48):
        small = F.avg_pool2d(image, 2)
    outputs = elastic.extract(whole, statistics=statistics)(small)
    return {
        task: F.interpolate(output, size=image.shape[2:], mode="bilinear", align_corners=False)
        if output.ndim == 4
        else output
        for task, output in outputs.items()
    }


def test_run_extracted_and_by_hand_are_the_same(elastic: ElasticModel) -> None:
    rng, image = generator(0, "sizes"), large(seed=7)
    full = {task: output.shape for task, output in elastic.run(image).items()}
    for size in elastic.inputs.sizes:
        arch = elastic.space.with_fixed({"input": f"{size[0]}x{size[1]}"}).sample(rng)
        selection = elastic.selection(arch)
        assert selection.size == size
        with torch.no_grad():
            run, extracted = elastic.run(image, selection), elastic.extract(arch)(image)
            assert {task: output.shape for task, output in run.items()} == full
            assert largest_difference(run, extracted) <= 1e-5
            assert largest_difference(run, by_hand(elastic, selection, image)) <= 1e-5


def test_statistics_belong_to_a_size(elastic: ElasticModel) -> None:
    small = elastic.statistics(Selection.of({}, (), (32, 48)))
    full = elastic.statistics(Selection.of({}))
    assert small.keys() == full.keys()
    if small:
        assert any(not torch.allclose(small[name], full[name]) for name in small)


def test_an_extracted_network_is_a_plain_module(elastic: ElasticModel) -> None:
    """Same parameter names as at full size; copies and saved weights work on."""
    selection, image = Selection.of({}, (), (32, 48)), large(seed=3)
    small = elastic.extract(selection)
    assert list(small.state_dict()) == list(elastic.model.state_dict())
    with torch.no_grad():
        expected = small(image)
        assert largest_difference(copy.deepcopy(small)(image), expected) == 0.0
        again = elastic.extract(selection)
        again.load_state_dict(small.state_dict())
        assert largest_difference(again(image), expected) == 0.0
        double = small(picture(1, 128, 192))
    assert all(output.shape[2:] == (128, 192) for output in double.values() if output.ndim == 4)


def test_gradients_of_a_smaller_size_reach_all_weights(elastic: ElasticModel) -> None:
    outputs = elastic.run(large(4), Selection.of({}, (), (32, 48)), training=True)
    sum(output.square().mean() for output in outputs.values()).backward()  # type: ignore[union-attr]
    missing = [name for name, parameter in elastic.model.named_parameters() if parameter.grad is None]
    elastic.model.zero_grad(set_to_none=True)
    assert not missing


def test_a_network_that_resizes_can_be_made_elastic_again(elastic: ElasticModel) -> None:
    """Groups are found through the resizes; what is cut from it still resizes."""
    small = elastic.extract(Selection.of({}, (), elastic.inputs.sizes[1]))
    again = make_elastic(small, large(), round_to=4)
    assert [g.name for g in again.groups if g.elastic] == [g.name for g in elastic.groups if g.elastic]
    with torch.no_grad():
        assert largest_difference(again.extract(Selection.of({}))(large(seed=2)), small(large(seed=2))) <= 1e-6


def test_the_summary_counts_the_smallest_network_at_its_size(elastic: ElasticModel) -> None:
    summary = elastic.summary()
    whole = elastic.space.with_fixed({"input": "64x96"}).smallest
    widths_alone = make_elastic(elastic.extract(whole), large(), prove=False).summary().largest
    assert summary.smallest.params == widths_alone.params
    assert summary.smallest.macs * 3 < widths_alone.macs  # a quarter, but for layers behind global pooling
    assert [row["size"] for row in summary.to_json()["input_sizes"]][-1] == "64x96"
    assert "input size" in str(summary)
