"""Every encoder of which something may be chosen, with all of it left open: what an arch says is what is delivered."""

from __future__ import annotations

from pathlib import Path

import elastic_exam as exam
import pytest

from mtnas.base.errors import JobError
from mtnas.encoders.table import ATTENTIONS, CHOICE, CHOOSABLE, KERNELS, OPTIONS, PER_TASK, UIB_OPERATORS

#: blocks that run once for each task have nothing to choose
SETTINGS = {
    name: [key for key in CHOOSABLE if key in options] for name, options in OPTIONS.items() if name not in PER_TASK
}
CASES = {
    name: exam.tiny(encoder=name, width=24, blocks=(1, 2), **dict.fromkeys(keys, CHOICE))
    for name, keys in SETTINGS.items()
    if keys
}
#: setting -> all that may be chosen
OFFERED = {
    "kernel": {f"k{size}" for size in KERNELS},
    "operator": set(UIB_OPERATORS),
    "attention": set(ATTENTIONS),
}


@pytest.fixture(scope="module", params=CASES)
def subject(request: pytest.FixtureRequest) -> exam.Subject:
    return exam.Subject(CASES[request.param])


def test_every_block_has_a_choice_of_all_options_cheapest_first(subject: exam.Subject) -> None:
    forks, name = subject.elastic.forks, subject.config.encoder
    assert [fork.refused for fork in forks if fork.refused] == []
    choices = {choice.name: choice.options for choice in subject.elastic.space.choices if choice.kind == "operator"}
    assert choices == {fork.choice: fork.options for fork in forks}
    assert all(list(fork.macs) == sorted(fork.macs) for fork in forks)
    blocks = sum(subject.config.blocks)
    for key in SETTINGS[name]:
        offered = [fork for fork in forks if {*fork.options} <= OFFERED[key]]
        assert len(offered) >= blocks and {option for fork in offered for option in fork.options} == OFFERED[key]


@pytest.mark.parametrize("name", sorted(PER_TASK))
def test_no_choice_where_blocks_run_once_for_each_task(name: str) -> None:
    with pytest.raises(JobError, match="run once for each task"):
        exam.tiny(encoder=name, attention=CHOICE)


def test_all_channels_but_those_of_outputs_may_shrink(subject: exam.Subject) -> None:
    exam.check_groups(subject)


def test_blocks_with_a_shortcut_may_be_left_out(subject: exam.Subject) -> None:
    assert subject.elastic.skippable


def test_cuts_are_the_extracted_modules(subject: exam.Subject) -> None:
    exam.check_cuts(subject, count=2)


def test_features_are_those_of_the_files(subject: exam.Subject) -> None:
    exam.check_features(subject)


def test_delivered_files_are_the_networks_in_float_and_8_bit(subject: exam.Subject, tmp_path: Path) -> None:
    exam.check_delivered(subject, tmp_path)


def test_learns_with_every_option(subject: exam.Subject) -> None:
    exam.check_learns(subject)
