"""The small parts of training: schedule, order of images, sub-networks, optimizer groups, modes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from train_toys import ToySplit, drawn, toy_net

from mtnas.base.errors import JobError
from mtnas.base.seeds import generator
from mtnas.space.choice import Choice
from mtnas.space.space import Space
from mtnas.train.balance.make import make_balance
from mtnas.train.batches import Batches
from mtnas.train.config import FinetuneConfig, TrainConfig
from mtnas.train.optimizer import make_optimizer
from mtnas.train.precision import Mode, fastest, modes
from mtnas.train.sampling import other_decoders, random_arch, step_archs
from mtnas.train.schedule import learning_rate

# --- schedule -------------------------------------------------------------------------------------------------------


def test_schedule_rises_to_the_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(step, total=100, warmup=10, peak=2.0) for step in range(100)]
    assert rates[0] == pytest.approx(2.0 / 11)
    assert rates[10] == max(rates) == 2.0
    assert all(np.diff(rates[:11]) > 0) and all(np.diff(rates[10:]) < 0)
    assert rates[55] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 5), (3, 10), (5, 0)])
def test_schedule_of_very_short_runs(total: int, warmup: int) -> None:
    rates = [learning_rate(step, total=total, warmup=warmup, peak=1.0) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates) and max(rates) == 1.0


# --- batches --------------------------------------------------------------------------------------------------------


def test_every_epoch_sees_each_image_once_in_another_order() -> None:
    batches = Batches(ToySplit(12), 4, seed=0, augment=False)
    epochs = [np.concatenate([batches.indices(3 * epoch + k) for k in range(3)]) for epoch in range(2)]
    assert all(sorted(order) == list(range(12)) for order in epochs)
    assert list(epochs[0]) != list(epochs[1])


def test_incomplete_last_batch_is_left_out() -> None:
    batches = Batches(ToySplit(10), 4, seed=0, augment=False)
    assert batches.per_epoch == 2
    assert all(len(batches.indices(step)) == 4 for step in range(6))


def test_stream_is_the_same_from_any_start() -> None:
    batches = Batches(ToySplit(12), 4, seed=0, augment=True)
    whole = list(batches.stream(0, 6))
    later = list(batches.stream(4, 6))
    assert len(whole) == 6
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[4:], later, strict=True))
    assert list(batches.stream(6, 6)) == []


def test_error_in_the_thread_reaches_the_caller() -> None:
    class Broken(ToySplit):
        def batch(self, indices, augment=None):
            raise JobError("broken")

    with pytest.raises(JobError, match="broken"):
        next(Batches(Broken(12), 4, seed=0, augment=False).stream(0, 3))


def test_fingerprint_knows_the_images() -> None:
    prints = {Batches(ToySplit(12, seed), 4, 0, augment=False).fingerprint() for seed in (0, 0, 1)}
    assert len(prints) == 2


# --- sampling -------------------------------------------------------------------------------------------------------

BRANCHES = (("a", "b"), ("a",), ("b",))
SPACE = Space(
    tuple(Choice(f"{''.join(owners)}{k}", (16, 32, 48, 64), "width", owners) for owners in BRANCHES for k in range(4))
)


def sizes(jitter: float, count: int = 3000) -> np.ndarray:
    """(N, branches) mean option index of each branch, in 0..1."""
    rng = generator(0, "test")
    indices_NC = SPACE.encode([random_arch(SPACE, rng, jitter) for _ in range(count)])
    return indices_NC.reshape(count, 3, 4).mean(2) / 3


def test_branches_are_drawn_independently() -> None:
    correlation = np.corrcoef(sizes(0.2).T)
    assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 0.06


def test_operators_are_drawn_evenly_whatever_the_size_of_their_branch() -> None:
    operators = Choice("op", ("a", "b", "c", "d"), "operator", ("x",))
    space = Space((Choice("width", (8, 16, 24, 32), "width", ("x",)), operators))
    rng = np.random.default_rng(0)
    indices_NC = space.encode([random_arch(space, rng, 0.1) for _ in range(4000)])
    assert np.abs(np.bincount(indices_NC[:, 1]) / 4000 - 0.25).max() < 0.03
    assert abs(np.corrcoef(indices_NC.T)[0, 1]) < 0.06
    without = Space(space.choices[:1])
    plain, again = (random_arch(without, np.random.default_rng(3), 0.1) for _ in range(2))
    assert plain == again  # a space without operators draws as ever


def test_extreme_corners_are_seen() -> None:
    """A small encoder with a large decoder, and the other way round."""
    shared, first, _ = sizes(0.2).T
    assert ((shared < 0.2) & (first > 0.8)).mean() > 0.01
    assert ((shared > 0.8) & (first < 0.2)).mean() > 0.01


def test_branches_vary_more_than_uniform_choices_would() -> None:
    """Independent uniform choices would give a branch of four choices a spread of 0.19."""
    assert sizes(0.2).std(0).min() > 0.28


def test_no_jitter_gives_uniform_branches() -> None:
    indices_NC = SPACE.encode([random_arch(SPACE, generator(0, k), 0.0) for k in range(50)]).reshape(50, 3, 4)
    assert (indices_NC == indices_NC[:, :, :1]).all()


def test_depths_scatter_where_widths_do_not() -> None:
    """A wide network with few blocks is seen, and so is one whose stages differ."""
    depths = [Choice(f"stage{k}", (1, 2, 3), "depth", ("a", "b")) for k in range(2)]
    space = Space((*SPACE.choices, *depths))
    indices_NC = space.encode([random_arch(space, generator(0, k), 0.0) for k in range(400)])
    widths_NC, depths_NC = indices_NC[:, :4], indices_NC[:, -2:]
    assert (widths_NC == widths_NC[:, :1]).all()
    assert (depths_NC[:, 0] != depths_NC[:, 1]).mean() > 0.2
    of_widest_NC = depths_NC[widths_NC[:, 0] == 3]
    assert (of_widest_NC < 2).any(axis=1).mean() > 0.05


def test_every_option_is_drawn() -> None:
    rng = generator(0, "options")
    indices_NC = SPACE.encode([random_arch(SPACE, rng, 0.2) for _ in range(500)])
    shares = np.stack([(indices_NC == option).mean(0) for option in range(4)])
    assert shares.min() > 0.15


def test_step_trains_the_smallest_and_never_the_largest_twice() -> None:
    archs = drawn(SPACE, generator(0, "step"), TrainConfig())
    assert archs[0] == SPACE.smallest and len(archs) == 3
    rigid = Space((Choice("only", (16,)),))
    assert drawn(rigid, generator(0), TrainConfig()) == []
    assert drawn(Space(()), generator(0), TrainConfig()) == []


def test_one_size_for_all_branches() -> None:
    """Without jitter these are the uniform widths: one option index for the whole network."""
    rng = generator(0, "together")
    indices_NC = SPACE.encode([random_arch(SPACE, rng, 0.0, together=True) for _ in range(60)])
    assert (indices_NC == indices_NC[:, :1]).all() and len(set(indices_NC[:, 0].tolist())) == 4


def test_other_decoders_leave_the_encoder() -> None:
    arch = random_arch(SPACE, generator(0), 0.2)
    others = [other_decoders(arch, SPACE, generator(1, k), 0.2) for k in range(20)]
    shared = [choice.name for choice in SPACE.choices if len(choice.owners) > 1]
    assert all(other[name] == arch[name] for other in others for name in shared)
    assert len(set(others)) > 15


def test_decoder_settings_come_in_lists_of_one_encoder() -> None:
    config = TrainConfig(decoders_per_encoder=3, random_widths=2)
    found = step_archs(SPACE, generator(0, "step"), config, SPACE.largest)
    assert [len(alike) for alike in found] == [3, 3, 3] and found[0][0] == SPACE.smallest
    assert len({arch for alike in found for arch in alike}) == 9
    plain = step_archs(SPACE, generator(0, "step"), TrainConfig(random_widths=2), SPACE.largest)
    assert [len(alike) for alike in plain] == [1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"branches": "apart"}, "independent"),
        ({"progressive": 1.5}, "between 0 and 1"),
        ({"warm_share": -0.1}, "between 0 and 1"),
        ({"warm_share": 0.5, "progressive": 0.4}, r"at least warm_share \(0.5\)"),
        ({"decoders_per_encoder": 0}, "one or more"),
        ({"decoders_per_encoder": 2, "branches": "together"}, "another branches"),
        ({"decoders_per_encoder": 2, "balance": "nash"}, "another balance"),
        ({"decoders_per_encoder": 2, "flat_radius": 0.1}, "another flat_radius"),
    ],
)
def test_sampling_settings_that_make_no_sense(settings: dict[str, object], match: str) -> None:
    with pytest.raises(JobError, match=match):
        TrainConfig(**settings)


# --- optimizer and modes --------------------------------------------------------------------------------------------


def test_weight_decay_spares_norms_biases_and_loss_weights() -> None:
    model, balance = toy_net(), make_balance("uncertainty", {"a": 1.0})
    groups = make_optimizer(FinetuneConfig(), model, [balance]).param_groups
    assert [group["weight_decay"] for group in groups] == [0.02, 0.0]
    assert all(parameter.ndim > 1 for parameter in groups[0]["params"])
    plain = {id(parameter) for parameter in groups[1]["params"]}
    norms = [p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    assert {id(parameter) for parameter in (*norms, *balance.parameters())} <= plain
    assert sum(len(group["params"]) for group in groups) == len([*model.parameters(), *balance.parameters()])


def test_modes_follow_the_settings() -> None:
    assert len(modes(FinetuneConfig())) == 4
    assert modes(FinetuneConfig(precision="bfloat16", channels_last="always")) == [Mode("bfloat16", True)]
    assert modes(FinetuneConfig(channels_last="never")) == [Mode("float32", False), Mode("bfloat16", False)]


def test_a_mode_must_be_clearly_faster() -> None:
    plain, fast, faster = Mode("float32", False), Mode("float32", True), Mode("bfloat16", True)
    times = {plain: 1.0, fast: 0.95, faster: 0.5}
    assert fastest([plain, fast, faster], times.__getitem__)[0] == faster
    assert fastest([plain, fast], times.__getitem__)[0] == plain
    assert fastest([faster], lambda mode: pytest.fail("no trial needed")) == (faster, {})
