"""Every row of ENCODERS, as part of a network: it shrinks, is cut, skips blocks, is quantized and learns."""

from __future__ import annotations

import elastic_exam as exam
import pytest

from mtnas.encoders.table import ENCODERS, PER_TASK

#: Rows that differ in their sizes alone are examined once.
CASES = {name: exam.tiny(encoder=name) for name in {row: name for name, row in reversed(ENCODERS.items())}.values()}
CASES["vit_moe"] = exam.tiny(encoder="vit_moe", top_k=2)
CASES |= {
    f"uib, {operator}": exam.tiny(encoder="uib", operator=operator, squeeze=4) for operator in ("ffn", "convnext")
}


@pytest.fixture(scope="module", params=CASES)
def subject(request: pytest.FixtureRequest) -> exam.Subject:
    return exam.Subject(CASES[request.param])


def test_all_channels_but_those_of_outputs_may_shrink(subject: exam.Subject) -> None:
    exam.check_groups(subject, runs_often=subject.config.encoder in PER_TASK)


def test_blocks_with_a_shortcut_may_be_left_out(subject: exam.Subject) -> None:
    assert subject.elastic.skippable
    assert any(choice.kind == "depth" for choice in subject.elastic.space.choices)


def test_cuts_are_the_extracted_modules(subject: exam.Subject) -> None:
    exam.check_cuts(subject)


def test_openvino_computes_the_same(subject: exam.Subject) -> None:
    exam.check_openvino(subject)


def test_runs_as_int8(subject: exam.Subject) -> None:
    exam.check_int8(subject)


def test_learns(subject: exam.Subject) -> None:
    exam.check_learns(subject)


def test_one_task_alone_is_the_same_and_less(subject: exam.Subject) -> None:
    exam.check_subset(subject)
