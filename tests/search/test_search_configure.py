"""From budget and preference to one network: decoders, the encoder within what is left, floors, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from configure_toys import OBJECTIVES, TASKS, all_archs, costs, scores, space, subject
from hypothesis import given, settings
from hypothesis import strategies as st

from mtnas.base.errors import CheckpointError, FloorMissed, Infeasible, JobError, ModelError
from mtnas.base.quantity import Counted
from mtnas.search.config import ConfigureConfig
from mtnas.search.configure import Configured, Subject, Wish, configure
from mtnas.search.decoders import DecoderPlan, decoder_choices, snapped
from mtnas.search.evaluations import Evaluations
from mtnas.search.judge import Judge
from mtnas.search.preference import weights
from mtnas.search.trial import Cost
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice
from mtnas.space.space import Space

EXHAUSTIVE = ConfigureConfig(lazy=False)


def macs(arch: Arch) -> float:
    return costs(arch)["macs"].value


FULL = macs(space().largest)


def decoders(arch: Arch, task: str) -> list[float]:
    return [float(option) for name, option in arch.options if name.startswith(task)]


# --- decoders --------------------------------------------------------------------------------------------------


def test_snapping_goes_to_the_nearest_option_and_leaves_ties_open() -> None:
    width = Choice("d", (8, 16, 32), "width", ("seg",))
    assert [snapped(width, f) for f in (0, 0.1, 1 / 3, 0.6, 0.7, 1)] == [(0,), (0,), (1,), (1,), (2,), (2,)]
    assert snapped(width, 2 / 3) == (1, 2)  # 24 lies midway between 16 and 32
    assert snapped(Choice("d", (8,), "width"), 0.3) == (0,)
    precision = Choice("p", ("int8", "bfloat16", "float32"), "precision", ("seg",))
    assert [snapped(precision, f) for f in (0.2, 0.4, 0.9)] == [(0,), (1,), (2,)]  # ordered, not numbers: by index
    assert snapped(Choice("r", ("16x16", "32x32", "64x64"), "resolution"), 0.4) == (1,)  # no numbers: by index


def test_only_ordered_choices_of_one_task_are_decoders() -> None:
    found = Space(
        (
            Choice("shared", (8, 16), "width", TASKS),
            Choice("seg.width", (8, 16), "width", ("seg",)),
            Choice("seg.depth", (1, 2), "depth", ("seg",)),
            Choice("seg.kernel", ("conv3", "conv5"), "operator", ("seg",)),
            Choice("depth.fixed", (8,), "width", ("depth",)),
            Choice("input", ("32x32", "64x64"), "resolution", ()),
        )
    )
    assert {t: [c.name for c in row] for t, row in decoder_choices(found).items()} == {
        "seg": ["seg.width", "seg.depth"]
    }
    restricted = DecoderPlan.of(found, {"seg": 0.2, "depth": 0.8}).restrict(found)
    assert [c.options for c in restricted.choices] == [
        (8, 16),
        (8,),
        (1,),
        ("conv3", "conv5"),
        (8,),
        ("32x32", "64x64"),
    ]
    alone = Space((Choice("a", (8, 16), "width", ("seg",)), Choice("b", (8, 16), "width", ("seg",))))
    assert decoder_choices(alone) == {}  # a single task: its network is the encoder


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
def test_a_higher_preference_never_gives_a_smaller_decoder(first: float, second: float, other: float) -> None:
    low, high = sorted((first, second))
    plans = [DecoderPlan.of(space(), weights(TASKS, {"seg": p, "depth": other})) for p in (low, high)]
    tops = [[max(row) for name, row in plan.targets.items() if name.startswith("seg")] for plan in plans]
    assert all(a <= b for a, b in zip(*tops, strict=True))


def test_the_most_preferred_decoder_is_the_largest_and_the_unwanted_the_smallest() -> None:
    found = configure(subject(), Wish({}, {"seg": 1, "depth": 0}))
    assert decoders(found.arch, "seg") == [32, 32] and decoders(found.arch, "depth") == [8, 8]
    assert [found.arch[f"e{i}"] for i in range(3)] == [32, 32, 32]  # no budget: the encoder stays whole
    equal = configure(subject(), Wish())
    assert equal.arch == space().largest and equal.loss == 0 and equal.evaluations == 1
    half = configure(subject(), Wish(), ConfigureConfig(decoder_levels=(1 / 3,)))
    assert decoders(half.arch, "seg") == decoders(half.arch, "depth") == [16, 16]


# --- the encoder -----------------------------------------------------------------------------------------------


def best_encoder(preference: Mapping[str, float], limit: float) -> float:
    """Loss of the best network with the decoders that the preference asks for."""
    share = weights(TASKS, preference)
    judge = Judge(OBJECTIVES, share, (), costs, scores, scores(space().largest))
    restricted = DecoderPlan.of(space(), share).restrict(space())
    return min(judge.loss(arch) for arch in all_archs(restricted) if macs(arch) <= limit)


@pytest.mark.parametrize("percent", [30, 45, 60, 75, 90])
@pytest.mark.parametrize("seg", [0.2, 0.5, 0.8])
def test_the_encoder_is_as_good_as_the_best_of_all(percent: int, seg: float) -> None:
    """Against every network with these decoders: within the budget, and within two hundredths of the best loss."""
    preference = {"seg": seg, "depth": 1 - seg}
    found = configure(subject(), Wish({"macs": f"{percent}%"}, preference))
    assert found.costs["macs"].value <= found.limits["macs"] == pytest.approx(FULL * percent / 100)
    assert found.loss <= best_encoder(preference, found.limits["macs"]) + 0.02
    every = configure(subject(), Wish({"macs": f"{percent}%"}, preference), EXHAUSTIVE)
    assert found.loss <= every.loss + 0.01 and found.evaluations <= every.evaluations


def test_the_encoder_follows_the_preference_too() -> None:
    """Width e0 matters for seg, e2 for depth."""
    seg = configure(subject(), Wish({"macs": "50%"}, {"seg": 1, "depth": 0})).arch
    depth = configure(subject(), Wish({"macs": "50%"}, {"seg": 0, "depth": 1})).arch
    assert float(seg["e0"]) > float(depth["e0"]) and float(seg["e2"]) < float(depth["e2"])


@settings(max_examples=40, deadline=None)
@given(st.floats(0.07, 1.2), st.floats(0, 1), st.booleans())
def test_limits_always_hold(share: float, seg: float, grow: bool) -> None:
    limit = share * FULL
    if macs(space().smallest) > limit:
        return
    found = configure(subject(), Wish({"macs": limit}, {"seg": seg, "depth": 1 - seg}), ConfigureConfig(grow=grow))
    assert macs(found.arch) <= limit


def test_growing_spends_what_is_left_and_never_hurts() -> None:
    for percent in range(25, 100, 15):
        grown = configure(subject(), Wish({"macs": f"{percent}%"}))
        plain = configure(subject(), Wish({"macs": f"{percent}%"}), ConfigureConfig(grow=False))
        assert grown.loss <= plain.loss and grown.costs["macs"].value >= plain.costs["macs"].value


def test_several_limits_hold_together() -> None:
    found = configure(subject(), Wish({"macs": "60%", "params": "40%"}))
    assert found.costs["params"].value <= 0.4 * FULL / 10 and found.costs["macs"].value <= 0.6 * FULL


def test_a_staircase_of_costs_is_stepped_over() -> None:
    """Widths 24 and 32 cost the same: the step that saves is two options away."""

    def stairs(arch: Arch) -> dict[str, object]:
        flat = Arch(tuple((name, max(16, 16 * -(-int(option) // 16))) for name, option in arch.options))
        return dict(costs(flat))

    found = configure(Subject(space(), OBJECTIVES, stairs, Evaluations(scores)), Wish({"macs": "60%"}))  # type: ignore[arg-type]
    assert stairs(found.arch)["macs"].value <= 0.6 * FULL  # type: ignore[attr-defined]
    assert any(int(found.arch[f"e{i}"]) == 16 for i in range(3))


def test_operators_are_searched_whatever_their_order() -> None:
    """The operator in the middle is the cheapest of all and scores best with e0; neighbours mean nothing."""
    found = Space((*space().choices, Choice("kernel", ("conv5", "pool", "conv3"), "operator", TASKS)))
    price = {"conv5": 0.9, "pool": 0.2, "conv3": 1.0}

    def priced(arch: Arch) -> Mapping[str, Cost]:
        return {"macs": Counted(macs(arch) * price[str(arch["kernel"])], "MACs")}

    def scored(arch: Arch) -> dict[str, float]:
        better = 0.1 if arch["kernel"] == "pool" else 0.0
        return {"seg": scores(arch)["seg"] + better, "depth": scores(arch)["depth"] - better}

    chosen = configure(Subject(found, OBJECTIVES, priced, Evaluations(scored)), Wish({"macs": "50%"}))
    assert chosen.arch["kernel"] == "pool" and chosen.loss < 0
    worse = configure(Subject(found, OBJECTIVES, priced, Evaluations(scores)), Wish({"macs": "95%"}))
    assert worse.arch == Arch.of({**found.largest.as_dict, "kernel": "conv5"}) and worse.loss == 0


def test_levels_below_one_free_budget_for_the_encoder() -> None:
    wish = Wish({"macs": "30%"}, {"seg": 1, "depth": 1})
    one = configure(subject(), wish)
    several = configure(subject(), wish, ConfigureConfig(decoder_levels=(1.0, 0.5, 0.25)))
    assert several.loss <= one.loss


# --- decoders that do not fit ----------------------------------------------------------------------------------


def test_the_least_preferred_decoder_shrinks_first() -> None:
    """With the smallest encoder, decoders of (32, 24) do not fit; depth, which is preferred less, gives way."""
    preference = {"seg": 1.0, "depth": 2 / 3}
    smallest_encoder = {f"e{i}": 8 for i in range(3)}
    both = Arch.of({**space().largest.as_dict, **smallest_encoder, "depth0": 24, "depth1": 24})
    found = configure(subject(), Wish({"macs": macs(both) - 1}, preference))
    assert decoders(found.arch, "seg") == [32, 32] and decoders(found.arch, "depth") == [16, 16]
    smallest = configure(subject(), Wish({"macs": macs(space().smallest)}, preference))
    assert smallest.arch == space().smallest


def test_a_limit_below_the_smallest_network_names_the_way_out() -> None:
    with pytest.raises(Infeasible, match=r"(?s)macs <= .*smallest.*relax macs"):
        configure(subject(), Wish({"macs": "2%"}))
    with pytest.raises(JobError, match="latency_ms"):
        configure(subject(), Wish({"latency_ms": 5.0}))
    with pytest.raises(JobError, match="did you mean 'seg'"):
        configure(subject(), Wish(preference={"sag": 2}))


# --- floors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [35, 60])
def test_floors_hold_by_score_whatever_the_preference(percent: int) -> None:
    free = configure(subject(), Wish({"macs": f"{percent}%"}, {"seg": 1, "depth": 0}))
    floor = 0.5 * free.scores["depth"] + 0.5 * free.full_scores["depth"]
    assert free.scores["depth"] > floor  # depth is an error
    found = configure(subject(), Wish({"macs": f"{percent}%"}, {"seg": 1, "depth": 0}, {"depth": floor}))
    assert scores(found.arch)["depth"] <= floor and macs(found.arch) <= found.limits["macs"]
    assert decoders(found.arch, "depth") > decoders(free.arch, "depth")
    assert found.scores["seg"] <= free.scores["seg"]


def test_percent_floors_refer_to_the_unpruned_network() -> None:
    found = configure(subject(), Wish({"macs": "50%"}, {"depth": 1, "seg": 0}, {"seg": "-5%"}))
    assert found.floors["seg"] == pytest.approx(0.95 * found.full_scores["seg"])
    assert found.scores["seg"] >= found.floors["seg"]


def test_floors_and_limits_that_exclude_each_other() -> None:
    with pytest.raises(Infeasible, match=r"(?s)a network that keeps macs <= .*seg >= .*relax"):
        configure(subject(), Wish({"macs": "10%"}, {}, {"seg": "-1%"}))
    with pytest.raises(FloorMissed, match="lower them"):
        configure(subject(), Wish({}, {}, {"seg": 99.0}))


# --- strategies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["nsga2", "random"])
def test_a_strategy_searches_the_same_encoder(strategy: str) -> None:
    config = ConfigureConfig(strategy=strategy, trials=40)
    wish = Wish({"macs": "50%"}, {"seg": 3, "depth": 1})
    found = configure(subject(), wish, config)
    assert macs(found.arch) <= found.limits["macs"]
    assert decoders(found.arch, "seg") == [32, 32] and decoders(found.arch, "depth") == [16, 16]
    assert found.loss <= best_encoder(found.preference, found.limits["macs"]) + 0.03
    assert configure(subject(), wish, config) == found
    other = configure(subject(), Wish({"macs": "50%"}, {"seg": 2, "depth": 1}), config)
    assert other.preference != found.preference


def test_a_strategy_keeps_floors() -> None:
    config = ConfigureConfig(strategy="nsga2", trials=40)
    wish = Wish({"macs": "60%"}, {"seg": 1, "depth": 0}, {"depth": "-60%"})
    found = configure(subject(), wish, config)
    assert found.scores["depth"] <= found.floors["depth"] and macs(found.arch) <= found.limits["macs"]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [("strategy", "gredy", "greedy"), ("trials", 1, "at least 2"), ("decoder_levels", (), "levels from 0 to 1")],
)
def test_settings_that_cannot_be(field: str, value: object, told: str) -> None:
    with pytest.raises(JobError, match=told):
        ConfigureConfig(**{field: value})  # type: ignore[arg-type]


# --- evaluations -----------------------------------------------------------------------------------------------


def test_an_interruption_loses_at_most_one_evaluation(tmp_path: Path) -> None:
    wish = Wish({"macs": "30%"}, {"seg": 1, "depth": 0})
    whole = configure(subject(), wish)
    calls: list[str] = []

    def interrupted(arch: Arch) -> dict[str, float]:
        calls.append(arch.id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return scores(arch)

    journal = tmp_path / "evaluations.jsonl"
    identity = {"weights": "abc"}
    with pytest.raises(KeyboardInterrupt):
        configure(subject(evaluations=Evaluations(interrupted, journal, identity)), wish)
    again = configure(subject(evaluations=Evaluations(interrupted, journal, identity)), wish)
    assert again == whole and len(calls) == whole.evaluations + 1
    assert sorted(set(calls)) == sorted(calls[:3] + calls[4:])  # only the fourth was begun twice
    known = Evaluations(interrupted, journal, identity)
    assert (
        configure(subject(evaluations=known), wish) == whole and known.count == 0 and known.known == whole.evaluations
    )
    with pytest.raises(CheckpointError, match="weights"):
        Evaluations(scores, journal, {"weights": "xyz"})


def test_archs_that_are_one_network_are_scored_once_and_nan_is_refused() -> None:
    seen: list[Arch] = []

    def counted(arch: Arch) -> dict[str, float]:
        seen.append(arch)
        return scores(arch)

    found = Evaluations(counted, same=lambda arch: arch["e0"])
    other = Arch.of({**space().largest.as_dict, "e1": 8})
    assert found(space().largest) == found(other) and len(seen) == found.count == 1
    with pytest.raises(ModelError, match="finite scores"):
        Evaluations(lambda arch: {"seg": float("nan")})(other)


def test_a_result_is_written_and_read() -> None:
    found = configure(subject(), Wish({"macs": "40%"}, {"seg": 2}, {"depth": "-90%"}))
    assert Configured.from_json(found.to_json()) == found
