"""Asking for every turn of both dials: closed forms on a network whose answers are known."""

from __future__ import annotations

import json

import pytest
from configure_toys import OBJECTIVES, TASKS, costs, scores, space, subject

from mtnas.base.errors import Infeasible, JobError
from mtnas.base.quantity import Counted
from mtnas.search.configure import Wish, configure
from mtnas.search.questions import Answer, Choice, Question, Reference, all_questions, ask, control_record
from mtnas.space.arch import Arch

FULL = Reference("the unpruned network", scores(space().largest))


def ideal(question: Question) -> Choice:
    """A network whose seg score rises with its preference, within half of the budget; depth never moves."""
    if question.budget["macs"] == 1:
        raise Infeasible("a network within 1", received="the smallest has 5")
    steps = {f"s{k}": k for k in range(11)}
    arch = Arch.of({"seg": round(10 * question.preference["seg"]), "macs": 50, **steps})
    limit = float(question.budget["macs"])
    return Choice(arch, {"macs": Counted(limit / 2, "MACs")}, {"macs": limit})


def ideal_scores(arch: Arch) -> dict[str, float]:
    """Twice as good as the reference at most."""
    return {"seg": 0.5 + 0.05 * float(arch["seg"]), "depth": 1.0}


def test_every_preference_is_asked_at_every_budget() -> None:
    budgets = [{"macs": "30%"}, {"macs": "60%", "params": 9}]
    asked = all_questions(TASKS, budgets, count=4, sweep=3)
    assert len(asked) == 2 * (4 + 2 * 3)
    assert [q.part for q in asked[:10]] == ["set"] * 4 + ["seg"] * 3 + ["depth"] * 3
    assert asked[4].preference == {"seg": 0.0, "depth": 1.0} and asked[0].budget == budgets[0]
    assert len(all_questions(TASKS, budgets, count=4, sweep=0)) == 8
    assert [q.preference for q in all_questions(["only"], budgets)] == [{"only": 1.0}] * 2
    with pytest.raises(JobError, match="at least one budget"):
        all_questions(TASKS, [])


def test_a_network_with_known_answers() -> None:
    asked = all_questions(TASKS, [{"macs": 80}, {"macs": 1}], count=8, sweep=5)
    reference = Reference("made up", {"seg": 0.5, "depth": 2.0})
    record = control_record(OBJECTIVES, ask(asked, ideal, ideal_scores), reference)
    assert json.loads(json.dumps(record)) == record and record["schema"] == "control/1"
    row, impossible = record["budgets"]
    assert (row["asked"], row["answered"], row["networks"]) == (
        18,
        18,
        len({a["id"] for a in record["answers"]} - {None}),
    )
    assert row["sweep_rank"] == {"seg": pytest.approx(1.0), "depth": None} and row["rank"]["seg"] == pytest.approx(1.0)
    assert row["score"]["seg"] == pytest.approx({"low": 0.5, "high": 1.0, "range": 0.5})
    assert row["ratio"]["seg"] == pytest.approx({"low": 0.0, "high": 1.0, "range": 1.0})
    best = max(a["scores"]["seg"] for a in record["answers"] if a["part"] == "set" and a["id"])
    # depth has half of the reference's error everywhere; the best seg alone bounds the region: 1.5 * (2 - v)
    assert row["hypervolume"]["value"] == pytest.approx(1.5 * (best / 0.5)) and row["hypervolume"]["points"] == 8
    assert row["budget_error"]["macs"] == {"mean": 0.5, "max": 0.5, "violation_rate": 0.0, "mean_room": 0.5}
    assert impossible["answered"] == 0 and impossible["hypervolume"] is None
    assert impossible["reasons"] == ["the smallest has 5"] and impossible["budget_error"] == {}
    # a budget without answers has no volume, and a task that never moves has no rank above 0
    assert record["mean_hypervolume"] == pytest.approx(row["hypervolume"]["value"] / 2) and record["lowest_rank"] == 0.0


def test_configure_answers_them_all() -> None:
    """On the toy network, whose score is known for every arch: capacity moves both scores the right way."""
    known = subject()

    def choose(question: Question) -> Choice:
        found = configure(known, Wish(question.budget, question.preference))
        return Choice(found.arch, found.costs, found.limits)

    asked = all_questions(TASKS, [{"macs": "40%"}, {"macs": "70%"}], count=20)
    record = control_record(OBJECTIVES, ask(asked, choose, scores), FULL)
    for row in record["budgets"]:
        assert row["answered"] == 30 and row["budget_error"]["macs"]["violation_rate"] == 0
        assert all(rank > 0.85 for rank in row["sweep_rank"].values())
        assert all(rank > 0.85 for rank in row["rank"].values())
        assert 0 < row["hypervolume"]["value"] < 1  # one would be the unpruned network at every budget
    low, high = (row["hypervolume"]["value"] for row in record["budgets"])
    assert low < high


def test_one_network_for_every_preference_is_no_control() -> None:
    whole = space().largest
    same = [Answer(q, whole, scores(whole), costs(whole)) for q in all_questions(TASKS, [{}], count=6)]
    record = control_record(OBJECTIVES, same, FULL)
    row = record["budgets"][0]
    assert row["budget"] == "no limit" and row["networks"] == 1
    assert row["hypervolume"]["value"] == pytest.approx(1.0)  # a good volume, and yet nothing moves
    assert set(row["rank"].values()) == {None} and record["lowest_sweep_rank"] == 0.0
    assert all(one["range"] == 0 for one in row["score"].values())
