"""The file itself: YAML 1.2 scalars, duplicates, damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mtnas.base.errors import JobError
from mtnas.job.text import Dumper, parse_text, parse_value, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("3", 3),
        ("3.0", 3.0),
        ("-.5", -0.5),
        ("12:30", "12:30"),
        ("007", 7),
        ("true", True),
        ("yes", "yes"),
        ("off", "off"),
        ("null", None),
        ("~", None),
        ("2024-01-01", "2024-01-01"),
        ("45%", "45%"),
        ("-15%", "-15%"),
        ("[depth, edges]", ["depth", "edges"]),
        ("{a: 1}", {"a": 1}),
        ("", None),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


#: PyYAML reads line separators inside a quoted key as spaces
WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
        max_leaves=8,
    )
)
def test_what_is_written_is_read_again(value: object) -> None:
    assert parse_value(yaml.dump(value, Dumper=Dumper, allow_unicode=True)) == value


def test_merge_keys_and_anchors_work() -> None:
    text = "base: &b {lr: 1.0, epochs: 2}\ntrain:\n  <<: *b\n  lr: 2.0\n"
    assert parse_text(text, "job.yaml")["train"] == {"lr": 2.0, "epochs": 2}


@pytest.mark.parametrize(
    ("text", "source", "where"),
    [
        ("a: 1\nb: 2\na: 3\n", "job.yaml", "job.yaml:3"),
        ("train:\n  lr: 1\n  lr: 2\n", "job.yaml", "job.yaml:3"),
        ('{"a": 1, "a": 2}', "job.json", "job.json"),
    ],
)
def test_duplicated_keys_are_refused(text: str, source: str, where: str) -> None:
    with pytest.raises(JobError) as caught:
        parse_text(text, source)
    assert caught.value.where == where
    assert "twice" in caught.value.received


@pytest.mark.parametrize("text", ["", "# only a comment", "- a\n- b", "word", "a: [1", "\ta: 1", "a: b: c", "{[1]: 2}"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(JobError):
        parse_text(text, "job.yaml")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 01}'])
def test_damaged_json_is_refused(text: str) -> None:
    with pytest.raises(JobError):
        parse_text(text, "job.json")


def test_python_objects_are_never_made() -> None:
    with pytest.raises(JobError):
        parse_text("a: !!python/object/apply:os.getcwd []", "job.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00name")
    for path in (tmp_path / "absent.yaml", tmp_path, binary):
        with pytest.raises(JobError) as caught:
            read_text(path)
        assert caught.value.cure
