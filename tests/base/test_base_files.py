"""Files and journals survive crashes and say what is wrong with them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mtnas.base.errors import CheckpointError, ExitCode, PackageMissing, StorageError, UserError
from mtnas.base.files import canonical_json, content_hash, read_json, write_json
from mtnas.base.journal import Journal
from mtnas.base.optional import require
from mtnas.base.seeds import derive_seed, generator


def test_equal_values_have_equal_hashes() -> None:
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1})
    assert canonical_json({"b": 1, "a": 2}) == '{"a":2,"b":1}'


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_wrong_schema_names_both(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"schema": "other/1"})
    with pytest.raises(CheckpointError, match=r"train/1.*\n.*other/1"):
        read_json(tmp_path / "a.json", schema="train/1")


@pytest.mark.parametrize("text", ["{", "", "\xff"])
def test_torn_json_is_a_checkpoint_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match="cure"):
        read_json(tmp_path / "a.json")


def test_a_torn_last_line_is_forgotten_and_overwritten(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append({"n": 1})
    with journal.path.open("ab") as stream:
        stream.write(b'{"n": 2')
    assert journal.records() == [{"n": 1}]
    journal.append({"n": 3})
    assert journal.records() == [{"n": 1}, {"n": 3}]


def test_a_journal_that_is_one_torn_line_starts_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.path.write_bytes(b'{"n"')
    journal.append({"n": 1})
    assert journal.records() == [{"n": 1}]


def test_damage_in_the_middle_is_an_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.path.write_text('{"n": 1}\nbroken\n{"n": 3}\n')
    with pytest.raises(CheckpointError, match="j.jsonl:2"):
        journal.records()


def test_a_file_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError, match="--out"):
        write_json(tmp_path / "out" / "a.json", {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_a_storage_error_that_says_what_to_do() -> None:
    with pytest.raises(StorageError, match="(?s)No space.*the same command resumes"):
        Journal(Path("/dev/full")).append({"n": 1})


def test_error_says_expected_received_where_cure() -> None:
    error = UserError("a positive number", received="-1", where="job.yaml: train.lr", cure="write lr: 0.001")
    assert str(error).splitlines()[0] == "job.yaml: train.lr: a positive number"
    assert "received: -1" in str(error)
    assert "cure: write lr: 0.001" in str(error)
    assert error.exit_code == ExitCode.JOB


def test_missing_package_names_the_extra() -> None:
    with pytest.raises(PackageMissing, match=r'pip install "mtnas\[tensorrt\]"') as caught:
        require("no_such_package_at_all", extra="tensorrt")
    assert caught.value.exit_code == 4


def test_seeds_are_stable_and_independent() -> None:
    assert derive_seed(0, "train") == derive_seed(0, "train") != derive_seed(0, "search")
    assert derive_seed(0, "a", "b") != derive_seed(0, "ab")
    assert generator(1, "x").integers(1 << 30) == generator(1, "x").integers(1 << 30)


def test_records_are_one_json_object_a_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append({"text": "two\nlines"})
    assert [json.loads(line) for line in journal.path.read_text().splitlines()] == [{"text": "two\nlines"}]
