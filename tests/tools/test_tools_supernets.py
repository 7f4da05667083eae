"""The supernets' benchmarks: who answers for a budget, how answers are chosen, and what the tables make of records."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mtnas.base.errors import DataError, JobError  # noqa: E402
from mtnas.data.open import open_dataset  # noqa: E402
from mtnas.elastic.model import ElasticModel  # noqa: E402
from mtnas.search.control import simplex_preferences  # noqa: E402
from mtnas.space.arch import Arch  # noqa: E402
from mtnas.train.cost import step_cost  # noqa: E402
from tools.bench.record import Options  # noqa: E402
from tools.bench.supernets import alone, control, opened  # noqa: E402
from tools.bench.supernets.answers import Candidate, Records, candidates, picks  # noqa: E402
from tools.bench.supernets.arms import ARMS, JOINT, Arm, arm_of, single  # noqa: E402
from tools.bench.supernets.choosing import Metrics, all_preferences  # noqa: E402
from tools.bench.supernets.evolve import BELOW, Breeder, Pool, evolve  # noqa: E402
from tools.bench.supernets.networks import (  # noqa: E402
    Costs,
    candidate_archs,
    elastic_network,
    fixed_arch,
    full_network,
    sliced_statistics,
    step_macs,
    tasks_of,
    uniform_archs,
    with_new_weights,
)
from tools.bench.supernets.settings import SETTINGS, Setting, setting_of  # noqa: E402
from tools.bench.supernets.work import SCHEMA, Worker, labelled, read_record, record_path  # noqa: E402

TASKS = ("segmentation", "depth")


@pytest.fixture(scope="module")
def tiny() -> Setting:
    """Two tasks, small images, one epoch."""
    setting = setting_of("scenes", quick=True)
    return replace(
        setting,
        name="tiny",
        data=replace(setting.data, train=32, calibrate=16, select=8, report=8, height=32, width=32),
        tasks=TASKS,
        model=replace(setting.model, width=16, blocks=(1, 1), head_width=16, head_convs=1, output_stride=8),
        candidates=3,
        train=replace(setting.train, precision="float32", channels_last="never", batch_size=16),
    )


def elastic_of(setting: Setting, arm: Arm | None = None) -> ElasticModel:
    dataset = open_dataset(setting.data)
    return elastic_network(full_network(setting, dataset, tasks_of(setting, dataset), 0), setting, arm)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_candidates_keep_their_budget_and_are_equally_many(tiny: Setting) -> None:
    wide = elastic_of(tiny)
    costs = Costs(wide)
    found = candidate_archs(wide, costs, tiny, arm_of(JOINT))
    assert found[0] == wide.space.largest and len(found) == len(set(found))
    for budget in tiny.budgets[:-1]:
        within = [arch for arch in found if costs.share(arch) <= budget]
        assert len(within) >= tiny.candidates and any(costs.share(arch) >= BELOW * budget for arch in within)
    narrow = elastic_of(tiny, arm_of("encoder"))
    assert all(len(choice.owners) > 1 for choice in narrow.space.choices)
    costs = Costs(narrow)
    counts = [sum(BELOW * b <= costs.share(a) <= b for a in candidate_archs(narrow, costs, tiny, arm_of("encoder")))
              for b in tiny.budgets if costs.share(narrow.space.smallest) <= b < 1]  # fmt: skip
    assert counts and max(counts) <= 2 * tiny.candidates


def test_decoders_follow_the_preferences(tiny: Setting) -> None:
    elastic = elastic_of(tiny)
    found = candidate_archs(elastic, Costs(elastic), replace(tiny, candidates=8), arm_of(JOINT))

    def decoder(arch: Any, task: str) -> int:
        return sum(int(arch[choice.name]) for choice in elastic.space.choices if choice.owners == (task,))

    preferences = simplex_preferences(TASKS, 8)
    favourite = max(preferences, key=lambda p: p["depth"])
    assert favourite["depth"] > 0.8
    assert any(decoder(arch, "depth") > decoder(arch, "segmentation") for arch in found)
    assert any(decoder(arch, "depth") < decoder(arch, "segmentation") for arch in found)


def test_uniform_networks_have_one_width(tiny: Setting) -> None:
    elastic = elastic_of(tiny)
    archs = uniform_archs(elastic)
    assert archs[0] == elastic.space.smallest and archs[-1] == elastic.space.largest
    assert candidate_archs(elastic, Costs(elastic), tiny, arm_of("uniform")) == archs


def test_one_network_stands_for_a_budget(tiny: Setting) -> None:
    elastic = elastic_of(tiny)
    costs = Costs(elastic)
    shares = [costs.share(fixed_arch(elastic, costs, budget)) for budget in tiny.budgets]
    assert all(share <= budget for share, budget in zip(shares, tiny.budgets, strict=True))
    assert shares == sorted(shares) and shares[-1] == 1.0
    with pytest.raises(DataError, match="a network within"):
        fixed_arch(elastic, costs, 1e-6)


def test_a_step_costs_between_its_smallest_and_largest_passes(tiny: Setting) -> None:
    elastic = elastic_of(tiny)
    passes = step_macs(elastic, Costs(elastic), tiny)
    assert 1.0 < passes < 2.0 + tiny.train.random_widths
    assert step_macs(elastic, Costs(elastic), replace(tiny, train=replace(tiny.train, random_widths=0))) < passes


def test_new_weights_are_new_and_leave_the_generator_alone(tiny: Setting) -> None:
    elastic = elastic_of(tiny)
    elastic.calibrate_with(lambda: [torch.zeros(2, 3, 32, 32)])
    network = elastic.extract(elastic.space.smallest)
    before = {name: value.clone() for name, value in network.named_parameters() if value.ndim > 1}
    state = torch.get_rng_state()
    with_new_weights(network, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    assert all(not torch.equal(value, dict(network.named_parameters())[name]) for name, value in before.items())


def test_stale_statistics_are_those_of_the_full_network(tiny: Setting) -> None:
    elastic = elastic_of(tiny)
    elastic.calibrate_with(lambda: [torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))])
    stale, full = sliced_statistics(elastic, elastic.space.smallest), elastic.statistics()
    own = elastic.statistics(elastic.selection(elastic.space.smallest))
    assert stale.keys() == own.keys()
    assert all(torch.equal(values, full[name][: len(values)]) for name, values in stale.items())
    assert any(not torch.allclose(values, own[name]) for name, values in stale.items())


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_record_is_made_once_and_answers_come_from_its_weights(tiny: Setting, tmp_path: Path) -> None:
    worker = Worker(tiny, tmp_path / "records", tmp_path / "weights")
    made = worker.make("none", 0)
    assert [row["budget"] for row in made["fixed"]] == list(tiny.budgets)
    assert made["training"]["steps"] == 2 and "root" not in json.dumps(made["setting"]["data"]["root"] or "")
    stamp = record_path(tiny, "none", 0, tmp_path / "records").stat().st_mtime_ns
    assert worker.make("none", 0) == made
    assert record_path(tiny, "none", 0, tmp_path / "records").stat().st_mtime_ns == stamp
    answers = worker.answer("none", 0)
    whole = answers["candidates"][0]
    assert whole["macs"] == 1.0
    assert whole["report"] == worker.metrics.primary(made["fixed"][-1]["estimated"]["report"])
    assert all(list(scores) == [worker.metrics.names[task]] for task, scores in whole["select"].items())
    records = Records(tiny, worker.metrics, worker.records)
    references(worker.records, tiny, 0)
    for budget in tiny.budgets:
        found = picks(candidates(records, "none", 0), all_preferences(TASKS), budget)
        assert found and all(one.report.keys() == set(TASKS) for one in found)


def test_weights_that_are_gone_are_trained_again(tiny: Setting, tmp_path: Path) -> None:
    worker = Worker(tiny, tmp_path / "records", tmp_path / "weights")
    worker.make("uniform", 0)
    shutil.rmtree(tmp_path / "weights")
    again = worker.answer("uniform", 0)
    known = worker.make("uniform", 0)["fixed"][-1]["estimated"]
    last = again["candidates"][-1]
    assert all(last[split] == worker.metrics.primary(scores) for split, scores in known.items())


def test_an_arm_of_larger_networks_can_take_as_many_multiply_adds(tiny: Setting, tmp_path: Path) -> None:
    worker = Worker(replace(tiny, train=replace(tiny.train, epochs=8)), tmp_path / "records", tmp_path / "weights")
    ours, same, more = (worker.make(arm, 0)["training"] for arm in (JOINT, "encoder_work", "encoder"))
    work = [one["epochs"] * one["cost"]["ratio"] for one in (ours, same, more)]
    assert same["epochs"] < more["epochs"] == ours["epochs"] == 8
    assert work[1] == pytest.approx(work[0], rel=0.5 / same["epochs"] + 0.05) and work[2] > 1.1 * work[0]


def test_single_and_alone_records_say_what_they_are(tiny: Setting, tmp_path: Path) -> None:
    worker = Worker(tiny, tmp_path / "records", tmp_path / "weights")
    one = worker.make(single("depth", 0.5), 0)
    assert one["task"] == "depth" and set(one["report"]) == {"depth"} and one["macs"] < 0.5
    by_itself = worker.make("alone-50", 0)
    assert by_itself["macs"] <= 0.5 and by_itself["epochs"] > tiny.train.epochs
    assert set(by_itself["report"]) == set(TASKS)
    part = worker.make("part-50", 0)
    assert part["arch"] == by_itself["arch"] and part["epochs"] == max(1, round(by_itself["epochs"] / 4))
    tuned = worker.make("tuned-50", 0)
    assert tuned["arch"] == by_itself["arch"] and 1 <= tuned["epochs"] <= round(0.1 * by_itself["epochs"] + 0.5)
    supernet = worker.make(JOINT, 0)["fixed"][tiny.budgets.index(0.5)]
    assert supernet["arch"] == tuned["arch"] and supernet["estimated"]["report"] != tuned["report"]


def test_only_labelled_images_teach_a_task() -> None:
    class Half:
        name = "train"

        def __len__(self) -> int:
            return 10

        def batch(self, indices: Any, augment: Any = None) -> Any:
            known = np.asarray(indices) % 2 - (np.asarray(indices) % 2 == 0)
            return torch.zeros(len(indices), 3, 4, 4), {"kind": torch.as_tensor(known)}

    class Kind:
        spec = type("Spec", (), {"type": "classification"})

    split = labelled(Half(), {"kind": Kind()})  # type: ignore[arg-type,dict-item]
    assert len(split) == 5
    assert (split.batch([0, 4])[1]["kind"] == 1).all()


# --- search -----------------------------------------------------------------------------------------------------------


def test_children_are_new_and_use_their_budget(tiny: Setting) -> None:
    elastic = elastic_of(tiny)
    costs, space = Costs(elastic), elastic.space
    parents = [fixed_arch(elastic, costs, budget) for budget in (0.3, 0.7)]
    for budget in (0.4, 1.0):
        found = Breeder(space, costs.share).children(parents, set(parents), budget, 8)
        assert len(set(found)) == 8 and not set(found) & set(parents)
        assert all(BELOW * budget <= costs.share(arch) <= budget for arch in found)
        assert found == Breeder(space, costs.share).children(parents, set(parents), budget, 8)
    assert Breeder(space, costs.share).children([space.smallest], set(), 1e-6, 2) == []


def test_a_search_finds_what_each_preference_wants(tiny: Setting) -> None:
    """With losses that know only a task's own decoder, the one who wants the task alone gets its widest decoder."""
    elastic = elastic_of(tiny)
    costs, space = Costs(elastic), elastic.space
    own = {task: [choice for choice in space.choices if choice.owners == (task,)] for task in TASKS}

    def losses(arch: Arch) -> dict[str, float]:
        return {task: -sum(c.index(arch[c.name]) / (len(c.options) - 1) for c in own[task]) for task in TASKS}

    pool, asked = Pool(costs.share, losses), all_preferences(TASKS)
    pool.add([space.smallest, fixed_arch(elastic, costs, 0.6)])
    evolve(pool, space, (0.6,), asked, rounds=12, children=6)
    for task in TASKS:
        alone = {other: float(other == task) for other in TASKS}
        (found,) = pool.chosen([alone], 0.6)
        assert costs.share(found) <= 0.6 and losses(found)[task] == -len(own[task])
    assert pool.chosen(asked, 1e-6) == []


# --- answers ----------------------------------------------------------------------------------------------------------


def candidate(macs: float, a: float, b: float) -> Candidate:
    ratios = {"segmentation": a, "depth": b}
    return Candidate("", macs, ratios, ratios)


def test_the_pick_keeps_the_budget_and_follows_the_preference() -> None:
    found = [candidate(0.2, 1.5, 1.1), candidate(0.3, 1.2, 1.4), candidate(0.9, 1.0, 1.0)]
    one_sided = [{"segmentation": 1.0, "depth": 0.0}, {"segmentation": 0.0, "depth": 1.0}]
    assert picks(found, one_sided, 0.3) == [found[1], found[0]]
    assert picks(found, [{"segmentation": 0.5, "depth": 0.5}], 1.0) == [found[2]]
    assert picks(found, one_sided, 0.1) == []


def test_tasks_are_scaled_before_they_are_weighed() -> None:
    """A task whose scores hardly differ still counts as its preference says."""
    found = [candidate(0.2, 2.0, 1.00), candidate(0.2, 1.0, 1.01)]
    assert picks(found, [{"segmentation": 0.4, "depth": 0.6}], 1.0) == [found[0]]


def write(folder: Path, setting: Setting, name: str, seed: int, **fields: Any) -> None:
    path = record_path(setting, name, seed, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schema": SCHEMA, "arm": name, "seed": seed, **fields}))


def answering(macs: float, miou: float, abs_err: float) -> dict[str, Any]:
    """A candidate; its arch says what it costs."""
    return {"arch": {"stem": round(100 * macs)}, "macs": macs, **scored(miou, abs_err)}


def scored(miou: float, abs_err: float) -> dict[str, Any]:
    scores = {"segmentation": {"miou": miou}, "depth": {"abs_err": abs_err, "rmse": abs_err}}
    return {"select": scores, "report": scores}


def costing(folder: Path, setting: Setting, ours: float, encoder_only: float) -> None:
    """Records of trainings that say what a step computes."""
    for arm, ratio in ((JOINT, ours), ("encoder", encoder_only)):
        write(folder, setting, arm, 0, training={"cost": {"ratio": ratio}})


def references(folder: Path, setting: Setting, seed: int) -> None:
    for task in TASKS:
        whole = scored(50.0, 0.5)
        part = {split: {task: scores[task]} for split, scores in whole.items()}
        write(folder, setting, single(task, 1.0), seed, **part)


@pytest.fixture
def records(tiny: Setting, tmp_path: Path) -> Records:
    metrics = Metrics.of(tasks_of(tiny, open_dataset(tiny.data)))
    return Records(tiny, metrics, tmp_path)


def test_delta_is_the_mean_relative_gain(records: Records, tiny: Setting) -> None:
    references(records.folder, tiny, 0)
    assert records.delta(scored(55.0, 0.45), "report", 0) == pytest.approx(10.0)
    assert records.delta(scored(45.0, 0.5), "report", 0) == pytest.approx(-5.0)


def test_a_missing_record_names_the_command_that_makes_it(records: Records) -> None:
    with pytest.raises(DataError, match=r"python -m tools\.bench\.supernets tiny"):
        records.read("none", 0)


def test_gains_are_paired_and_budgets_that_a_rival_misses_count_as_nothing(
    records: Records, tiny: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = records.folder
    for seed in range(3):
        references(folder, tiny, seed)
        good = [answering(share, 50.0, 0.5) for share in (0.3, 1.0)]
        whole = [answering(1.0, 50.0, 0.5)]
        write(folder, tiny, f"answers-{JOINT}", seed, candidates=good)
        write(folder, tiny, "answers-encoder", seed, candidates=whole)
        write(folder, tiny, "answers-uniform", seed, candidates=good)
    costing(folder, tiny, 0.5, 0.75)
    monkeypatch.setattr(control, "opened", lambda *_args, **_kwargs: (records, (0, 1, 2)))
    result = control.run("tiny", Options())
    assert "An epoch of encoder only takes 1.50 times the multiply-adds" in result.note
    claims = {claim.claim: claim for claim in result.claims}
    everywhere = claims["hypervolume gained over encoder only, all budgets, %"]
    assert everywhere.value == pytest.approx(300.0) and everywhere.met is True
    met = claims["hypervolume gained over encoder only, budgets that it can meet (100%), %"]
    assert met.value == pytest.approx(0.0) and met.met is False
    assert claims["hypervolume gained over one width for all, all budgets, %"].value == pytest.approx(0.0)
    by_arm = {(row["arm"], row["budget"]): row for row in result.rows}
    assert by_arm["encoder only", 30]["hypervolume"] == 0 and by_arm["encoder only", 30]["used"] is None
    assert by_arm["encoder and decoders", 30]["hypervolume"] == pytest.approx(1.0)


def test_a_choice_that_other_images_do_not_bear_out_is_told_apart_from_a_dial_that_does_not_turn(
    records: Records,
) -> None:
    """Three networks between the tasks; on the images that did not choose, their order is the other way round."""
    trade = {"a": (1.0, 1.4), "b": (1.15, 1.15), "c": (1.4, 1.0)}
    turned = [
        Candidate(name, 0.5, dict(zip(TASKS, seen, strict=True)), dict(zip(TASKS, reversed(seen), strict=True)))
        for name, seen in trade.items()
    ]
    found = control.Answers(records, turned).at(1.0)
    assert all(found["seen"][task] > 0.8 and found["correlations"][task] < -0.8 for task in TASKS)
    alike = control.Answers(records, [replace(one, report=one.select) for one in turned]).at(1.0)
    assert alike["correlations"] == alike["seen"] == found["seen"]


def test_trainings_are_compared_by_the_networks_that_both_have_scored(
    records: Records, tiny: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third network, with which ours would gain more, is left out."""
    for seed in range(3):
        references(records.folder, tiny, seed)
        common = [answering(0.3, 50.0, 0.5), answering(1.0, 50.0, 0.5)]
        write(records.folder, tiny, f"answers-{JOINT}", seed, candidates=[*common, answering(0.29, 90.0, 0.1)])
        write(
            records.folder,
            tiny,
            "answers-attention",
            seed,
            candidates=[answering(a["macs"], 50.0, 0.75) for a in common],
        )
        for rival in control.RIVALS:
            write(records.folder, tiny, f"answers-{rival}", seed, candidates=common)
    costing(records.folder, tiny, 1.0, 1.0)
    monkeypatch.setattr(control, "opened", lambda *_args, **_kwargs: (records, (0, 1, 2)))
    (found,) = [claim for claim in control.run("tiny", Options()).claims if "take turns" in claim.claim]
    assert found.value == pytest.approx(100.0)  # loss ratios (1, 1) against (1, 1.5), the reference point is (2, 2)


def test_training_alone_is_compared_at_the_same_budget(
    records: Records, tiny: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        references(records.folder, tiny, seed)
        fixed = [{"budget": budget, "estimated": scored(50.0, 0.5)} for budget in tiny.budgets]
        write(records.folder, tiny, JOINT, seed, fixed=fixed)
        for budget in tiny.budgets:
            write(records.folder, tiny, f"alone-{round(100 * budget)}", seed, epochs=9, **scored(52.0, 0.5))
            write(records.folder, tiny, f"tuned-{round(100 * budget)}", seed, epochs=1, **scored(51.5, 0.5))
            write(records.folder, tiny, f"part-{round(100 * budget)}", seed, epochs=2, **scored(49.0, 0.5))
    monkeypatch.setattr(alone, "opened", lambda *_args, **_kwargs: (records, (0, 1, 2)))
    monkeypatch.setattr(alone, "setting_of", lambda *_args, **_kwargs: tiny)
    result = alone.run("tiny", Options())
    assert [row["gap"] for row in result.rows] == pytest.approx([2.0] * 4)
    assert [claim.value for claim in result.claims] == pytest.approx([2.0, 0.5, -1.0] * 4)
    assert [claim.met for claim in result.claims] == [False, True, True] * 4


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_arm_and_setting_is_sound() -> None:
    for setting in SETTINGS.values():
        for arm in ARMS.values():
            arm.training(setting.train)
    with pytest.raises(JobError, match="a known arm"):
        arm_of("nothing-like-it")
    with pytest.raises(JobError, match="a known setting"):
        setting_of("moon")
    with pytest.raises(JobError, match="at least one seed"):
        opened.check_seeds(0)


def test_all_arms_train_for_equally_many_multiply_adds(tiny: Setting) -> None:
    wide, setting = elastic_of(tiny), replace(tiny.train, epochs=4)
    taken = {name: arm_of(name).training(setting) for name in ("none", "attention", JOINT)}
    macs = {name: config.epochs * config.round * step_cost(wide, config).ratio for name, config in taken.items()}
    assert macs["attention"] == macs["none"] and macs[JOINT] == pytest.approx(macs["none"], rel=0.1)
    assert taken[JOINT].round == 4 and taken["none"].round == taken["attention"].round == 1


def test_records_of_other_settings_are_not_found(tiny: Setting, tmp_path: Path) -> None:
    write(tmp_path, tiny, "none", 0)
    assert read_record(tiny, "none", 0, tmp_path) is not None
    assert read_record(replace(tiny, name="other"), "none", 0, tmp_path) is None
