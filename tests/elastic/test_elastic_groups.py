"""What shrinks, what is frozen and why, who owns it; and the errors a user may see."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import zoo
from torch import Tensor, nn

from mtnas.base.errors import ModelError, SpaceError
from mtnas.base.groups import ChannelGroup, Selection
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.elastic.summary import cost
from mtnas.space.rules import SpaceRules


def elastic_of(model: nn.Module, round_to: int = 4) -> ElasticModel:
    zoo.randomise(model)
    made = make_elastic(model.eval(), zoo.image(), round_to=round_to)
    made.calibrate_with(lambda: [zoo.image(4)])
    return made


def by_name(elastic: ElasticModel) -> dict[str, ChannelGroup]:
    return {group.name: group for group in elastic.groups}


# --- groups ----------------------------------------------------------------------------


def test_residual_adds_tie_producers_and_owners_tell_shared_from_private() -> None:
    groups = by_name(elastic_of(zoo.build("residual")))
    stage = {member.name for member in groups["stages.1.conv2"].members if member.role == "out"}
    convs = {name.rpartition(".")[0] for name in stage}
    assert convs == {"stages.1.conv2", "stages.1.skip", "stages.2.conv2"}
    assert groups["stages.1.conv2"].owners == ("segmentation", "depth", "presence")
    assert groups["depth.0.0"].owners == ("depth",)
    assert groups["presence.linear"].frozen == "is output 'presence'"
    assert groups["depth.1"].frozen == "is output 'depth'"


def test_batch_norm_buffers_are_members() -> None:
    roles = {m.name: m.role for m in by_name(elastic_of(zoo.build("residual")))["depth.0.0"].members}
    assert roles == {
        "depth.0.0.weight": "out",
        "depth.0.1.weight": "norm",
        "depth.0.1.bias": "norm",
        "depth.0.1.running_mean": "norm",
        "depth.0.1.running_var": "norm",
        "depth.1.weight": "in",
    }


def test_concatenation_leaves_both_parts_free() -> None:
    groups = by_name(elastic_of(zoo.build("unet")))
    rows = {g: m.positions_UK for g in ("down2.0", "up2") for m in groups[g].members if m.name == "fuse2.0.weight"}
    assert rows["down2.0"] == tuple((u,) for u in range(24))
    assert rows["up2"] == tuple((24 + u,) for u in range(24))


def test_grouped_convolutions_tie_blocks() -> None:
    """Blocks of 24 and of 12 meet on 48 channels: a unit is one channel of each of the four smaller blocks."""
    groups = by_name(elastic_of(zoo.build("grouped")))
    group = groups["halves.0"]
    positions = {member.name: member.positions_UK[1] for member in group.members if member.role in ("out", "in")}
    assert group.size == 12
    assert positions == {"halves.0.weight": (1, 13, 25, 37), "quarters.0.weight": (1,)}
    plain = elastic_of(zoo.build("grouped")).extract(Selection.of({"halves.0": (1, 7)}))
    assert plain.halves[0].groups == 2
    assert plain.quarters[0].groups == 4
    assert plain.quarters[0].weight.shape[:2] == (48, 2)


def test_depthwise_groups_shrink() -> None:
    elastic = elastic_of(zoo.build("depthwise"))
    plain = elastic.extract(Selection.of({"blocks.1.expand.0": (3, 5, 8)}))
    assert plain.blocks[1].depthwise[0].groups == 3
    assert elastic.model.blocks[1].depthwise[0].groups == 48


def test_flattened_channels_take_their_pixels_along() -> None:
    group = by_name(elastic_of(zoo.build("flatten")))["body.0"]
    rows = next(m.positions_UK for m in group.members if m.name == "hidden.weight")
    assert rows[2] == tuple(range(32, 48))


def test_shared_parameters_are_members_under_every_name_and_stay_shared() -> None:
    elastic = elastic_of(zoo.build("shared"))
    names = {member.name for member in by_name(elastic)["smooth"].members}
    assert {"smooth.weight", "tied.weight", "smooth.bias", "tied.bias"} <= names
    plain = elastic.extract(Selection.of({"smooth": (0, 3)}))
    assert plain.smooth.weight is plain.tied.weight


def test_loose_parameters_follow_their_channels() -> None:
    group = by_name(elastic_of(zoo.build("other_norms")))["body"]
    assert next(m for m in group.members if m.name == "scale").axis == 0


@pytest.mark.parametrize("name", zoo.ZOO)
def test_one_image_is_example_enough(name: str) -> None:
    """The batch size of the example changes nothing."""
    one, four = (make_elastic(zoo.build(name), zoo.image(batch), round_to=4) for batch in (1, 4))

    def found(elastic: ElasticModel) -> list[ChannelGroup]:
        return [replace(group, frozen=group.frozen.partition(": ")[0]) for group in elastic.groups]

    assert found(one) == found(four)


# --- unusual networks ----------------------------------------------------------------------------


class Shuffled(nn.Module):
    """Channels shuffled by reshaping, a pixel shuffle, a mean over channels, a computed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.free = nn.Conv2d(3, 16, 1)
        self.shuffled = nn.Conv2d(16, 24, 1)
        self.blocks = nn.Conv2d(24, 24, 1, groups=3)
        self.averaged = nn.Conv2d(24, 16, 1)
        self.before = nn.Conv2d(16, 16, 1)
        self.computed = nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 1))
        self.pixels = nn.Conv2d(16, 16, 1)
        self.depth = nn.Conv2d(4, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.shuffled(F.relu(self.free(image)))
        b, c, h, w = x.shape
        x = x.view(b, 3, c // 3, h, w).transpose(1, 2).reshape(b, c, h, w)
        x = self.averaged(self.blocks(x))
        x = self.before(x - x.mean(1, keepdim=True))
        return {"depth": self.depth(F.pixel_shuffle(self.pixels(F.relu(self.computed(x))), 2))}


def test_unusual_links_are_followed() -> None:
    elastic = elastic_of(zoo.build("unusual"))
    groups = by_name(elastic)
    assert {name for name, group in groups.items() if group.frozen} == {"gate", "depth"}
    assert groups["halves"].size == 16
    part = next(m.positions_UK for m in groups["stem.0"].members if m.name == "mix.0.weight")
    assert part[0] == (3,)
    with torch.no_grad():
        selection = Selection.of({name: (0, 2, 5) for name, group in groups.items() if group.elastic})
        plain = elastic.extract(selection)
        torch.testing.assert_close(plain(zoo.image())["depth"], elastic.run(zoo.image(), selection)["depth"])
    assert plain.multiplier.groups == 3
    assert plain.multiplier.out_channels == 6


class BareNorm(nn.Module):
    """An instance norm without tensors, and an activation in place after it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3)
        self.norm = nn.InstanceNorm2d(16)
        self.act = nn.ReLU(inplace=True)
        self.depth = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"depth": self.depth(self.act(self.norm(self.first(image))))}


def test_norms_without_tensors_follow_their_group() -> None:
    elastic = elastic_of(BareNorm())
    seen: list[int] = []
    handle = elastic.model.norm.register_forward_hook(lambda norm, *_: seen.append(norm.num_features))
    elastic.run(zoo.image(), Selection.of({"first": (1, 2, 9)}))
    handle.remove()
    assert seen == [3]
    assert elastic.model.norm.num_features == 16
    assert elastic.extract(Selection.of({"first": (1, 2, 9)})).norm.num_features == 3


def test_what_mixes_channels_is_frozen_with_the_reason() -> None:
    groups = by_name(elastic_of(Shuffled()))
    assert groups["free"].elastic
    assert groups["blocks"].elastic
    assert "mixes its channels" in groups["shuffled"].frozen
    assert "mixes its channels" in groups["averaged"].frozen
    assert "computed from other parameters" in groups["before"].frozen
    assert "computed from other parameters" in groups["computed"].frozen
    assert "pixel_shuffle" in groups["pixels"].frozen
    assert "GroupNorm normalises over its channels" in by_name(elastic_of(zoo.build("other_norms")))["stem"].frozen


def test_the_proof_catches_what_tracing_believes() -> None:
    model = Shuffled()
    zoo.randomise(model)
    believed = make_elastic(model, zoo.image(), prove=False)
    assert by_name(believed)["shuffled"].elastic


@pytest.mark.parametrize("how", ["name", "glob", "module", "container"])
def test_ignored_layers_keep_their_outputs(how: str) -> None:
    model = zoo.build("residual")
    ignored = {
        "name": "stages.1.conv2",
        "glob": "stages.1.*2",
        "module": model.stages[1].conv2,
        "container": "stages.1",
    }
    groups = by_name(make_elastic(model, zoo.image(), ignored_layers=[ignored[how]]))
    assert "is ignored" in groups["stages.1.conv2"].frozen
    assert groups["stages.3.conv1"].elastic
    assert groups["stages.1.conv1"].elastic != (how == "container")


# --- widths ----------------------------------------------------------------------------


def test_prefix_widths_are_views_of_one_set_of_weights() -> None:
    elastic = elastic_of(zoo.build("residual"))
    seen: list[Tensor] = []
    layer = elastic.model.stages[1].conv1
    handle = layer.register_forward_hook(lambda conv, *_: seen.append(conv.weight))
    elastic.run(zoo.image(), Selection.prefix({"stages.1.conv1": 8, "stem.0": 4}), training=True)
    handle.remove()
    assert seen[0].shape == (8, 4, 3, 3)
    assert seen[0].untyped_storage().data_ptr() == layer.weight.untyped_storage().data_ptr()
    assert layer.weight.shape == (32, 16, 3, 3)


def test_widths_are_channels_on_the_devices_steps() -> None:
    elastic = elastic_of(zoo.build("grouped"), round_to=8)
    rows = {row.name: row for row in elastic.summary().groups}
    assert rows["narrow.0"].widths == (8, 16, 24, 32)
    assert elastic.space.by_name["narrow.0"].options == (2, 4, 6, 8)
    assert all(width % 8 == 0 for row in rows.values() for width in row.widths)


def test_rules_decide_the_widths() -> None:
    model = zoo.build("residual")
    rules = SpaceRules(shared=(1.0,), decoder=(0.5, 1.0))
    elastic = make_elastic(model, zoo.image(), rules=rules)
    assert elastic.space.by_name["depth.0.0"].options == (8, 16)
    assert "stem.0" not in elastic.space.by_name
    assert by_name(elastic)["stem.0"].elastic


def test_selections_are_checked() -> None:
    elastic = elastic_of(zoo.build("residual"))
    with pytest.raises(SpaceError, match="is frozen"):
        elastic.run(zoo.image(), Selection.of({"presence.linear": (0, 1)}))
    with pytest.raises(SpaceError, match="a group of this model"):
        elastic.run(zoo.image(), Selection.of({"nothing": (0,)}))
    with pytest.raises(SpaceError, match="importance"):
        elastic.sort_channels({"stem": torch.ones(16).numpy()})


def test_evaluation_does_not_depend_on_the_mode_left_behind() -> None:
    elastic = elastic_of(zoo.build("residual"))
    before, state = elastic.run(zoo.image()), elastic.state()
    elastic.model.train()
    after = elastic.run(zoo.image())
    assert all(torch.equal(after[task], before[task]) for task in before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in elastic.state().items())


def test_a_failing_forward_leaves_the_network_whole() -> None:
    elastic = elastic_of(zoo.build("depthwise"))
    before = {name: id(tensor) for name, tensor in elastic.model.state_dict(keep_vars=True).items()}
    with pytest.raises(RuntimeError):
        elastic.run(torch.zeros(1, 5, 8, 8), Selection.of({"blocks.1.expand.0": (0, 2)}), training=True)
    assert before == {name: id(tensor) for name, tensor in elastic.model.state_dict(keep_vars=True).items()}
    assert elastic.model.blocks[1].depthwise[0].groups == 48
    assert not any(layer.training for layer in elastic.model.modules())


# --- summary ----------------------------------------------------------------------------


def test_summary_counts_and_says_why() -> None:
    elastic = elastic_of(zoo.build("plain"), round_to=8)
    summary = elastic.summary()
    # first 3*3*3*16 at 32x32, second 3*3*16*24 at 16x16, depth 24 at 16x16, label 24*5
    macs = 432 * 1024 + 3456 * 256 + 24 * 256 + 120
    params = (432 + 16) + (3456 + 24) + 24 + (24 + 1) + (120 + 5)
    assert (summary.largest.macs, summary.largest.params) == (macs, params)
    smallest = elastic.extract(elastic.selection(elastic.space.smallest))
    assert cost(smallest, zoo.image(5)) == summary.smallest
    text = str(summary)
    assert "is output 'depth'" in text
    assert f"{macs:,}" in text
    assert max(len(line) for line in text.splitlines()) < 120
    data = json.loads(json.dumps(summary.to_json()))
    assert data["schema"] == "elastic/1"
    assert data["groups"][0] == {
        "name": "first",
        "channels": 16,
        "widths": [8, 16],
        "owners": ["depth", "label"],
        "frozen": "",
    }


# --- errors ----------------------------------------------------------------------------


class Returning(nn.Module):
    """A model that breaks the contract in a chosen way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.how = nn.Conv2d(3, 8, 1), how

    def forward(self, image: Tensor) -> object:
        y = self.conv(image)
        results: dict[str, object] = {
            "tensor": y,
            "tuple": (y,),
            "empty": {},
            "number": {"depth": 1.0},
            "classes": {"label": y.argmax(1)},
            "unnamed": {0: y},
            "detached": {"depth": y.detach()},
            "frozen": {"depth": y},
        }
        if self.how == "raises":
            raise ValueError("no such thing")
        return results[self.how]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("tensor", "a dict of tensors by task name"),
        ("tuple", "a dict of tensors by task name"),
        ("empty", "a dict of tensors by task name"),
        ("number", "output 'depth'"),
        ("classes", "output 'label'"),
        ("unnamed", "task names as text"),
        ("detached", "by gradient"),
        ("raises", "no such thing"),
        ("frozen", "is output 'depth'"),
    ],
)
def test_broken_contracts_say_what_is_wrong(how: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        make_elastic(Returning(how), zoo.image())
    assert caught.value.cure


@pytest.mark.parametrize("example", [torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "image"])
def test_wrong_examples_are_refused(example: object) -> None:
    with pytest.raises(ModelError, match="one float image batch"):
        make_elastic(zoo.build("plain"), example)  # type: ignore[arg-type]


def test_a_wrong_ignored_layer_names_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"did you mean 'second'"):
        make_elastic(zoo.build("plain"), zoo.image(), ignored_layers=["secnd"])
    with pytest.raises(ModelError, match="layers of this model"):
        make_elastic(zoo.build("plain"), zoo.image(), ignored_layers=[nn.Conv2d(1, 1, 1)])
