"""Every row of HEADS and JOINT_HEADS, as part of a network: it shrinks, is cut, is quantized and learns."""

from __future__ import annotations

import elastic_exam as exam
import pytest

from mtnas.heads.table import DENSE_HEADS, HEADS, JOINT_HEADS, NONE, TASK_VECTORS

CASES = {name: exam.tiny(dense_head=name) for name in sorted(DENSE_HEADS | set(JOINT_HEADS))}
CASES |= {name: exam.tiny(image_head=name) for name in sorted(set(HEADS) - DENSE_HEADS)}
CASES |= {f"vectors, {operation}": exam.tiny(task_vectors=operation) for operation in TASK_VECTORS if operation != NONE}


@pytest.fixture(scope="module", params=CASES)
def subject(request: pytest.FixtureRequest) -> exam.Subject:
    return exam.Subject(CASES[request.param])


def test_all_channels_but_those_of_outputs_may_shrink(subject: exam.Subject) -> None:
    exam.check_groups(subject)


def test_every_task_has_channels_of_its_own(subject: exam.Subject) -> None:
    """So that a preference can move its share of the budget."""
    own = {group.owners[0] for group in subject.elastic.groups if group.elastic and len(group.owners) == 1}
    assert own == set(exam.TARGETS)


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
