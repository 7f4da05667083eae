"""The journal of one search: a header that says what is searched, then one record per trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mtnas.base.errors import CheckpointError, SpaceError
from mtnas.base.journal import Journal
from mtnas.base.machine import package_versions
from mtnas.search.config import SearchConfig
from mtnas.search.problem import Problem
from mtnas.search.trial import Trial
from mtnas.space.arch import Arch

SCHEMA = "trials/1"
COMPARED = ("schema", "space", "objectives", "constraints", "strategy", "population", "max_repeats", "seed")


class TrialJournal:
    """Opens or begins a journal; `past` holds the trials that it already has."""

    def __init__(self, path: Path, problem: Problem, config: SearchConfig, seed: int) -> None:
        self.journal = Journal(path)
        header = _header(problem, config, seed)
        records = self.journal.records()
        if records:
            self._check_header(records[0], header)
        else:
            self.journal.append(header)
        self.space = problem.space
        self.versions: dict[str, str] = records[0]["versions"] if records else header["versions"]
        self.past = [self._trial(record, number) for number, record in enumerate(records[1:])]

    def recall(self, number: int, arch: Arch) -> Trial | None:
        """The recorded trial of that number; `None` when it is still to be evaluated."""
        if number >= len(self.past):
            return None
        if self.past[number].arch != arch:
            then = {name: version for name, version in self.versions.items() if name in ("pymoo", "optuna", "numpy")}
            raise CheckpointError(
                f"arch {self.past[number].arch.id} at trial {number}, as recorded",
                received=f"the strategy now proposes {arch.id}",
                where=str(self.journal.path),
                cure=f"install the versions that began this search ({then}), or use a new --out",
            )
        return self.past[number]

    def write(self, trial: Trial) -> None:
        self.journal.append(trial.to_json())

    def _check_header(self, found: dict[str, Any], header: dict[str, Any]) -> None:
        for key in COMPARED:
            if found.get(key) != header[key]:
                raise CheckpointError(
                    f"a journal of this search: {key} = {header[key]}",
                    received=f"{key} = {found.get(key)}",
                    where=str(self.journal.path),
                    cure="the search was changed since: change it back, or use a new --out",
                )

    def _trial(self, record: dict[str, Any], number: int) -> Trial:
        try:
            trial = Trial.from_json(record)
            # Records are written with sorted keys; an arch has the order of its space.
            trial = replace(trial, arch=self.space.decode(self.space.encode([trial.arch]))[0])
        except (KeyError, TypeError, AttributeError, SpaceError) as error:
            raise self._damaged(number, f"{type(error).__name__}: {error}") from error
        if trial.number != number:
            raise self._damaged(number, f"trial {trial.number}")
        return trial

    def _damaged(self, number: int, received: str) -> CheckpointError:
        return CheckpointError(
            f"the record of trial {number}",
            received=received,
            where=f"{self.journal.path}:{number + 2}",
            cure="the journal was edited: restore it, or use a new --out",
        )


def _header(problem: Problem, config: SearchConfig, seed: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        **problem.to_json(),
        "strategy": config.strategy,
        "population": config.population,
        "max_repeats": config.max_repeats,
        "seed": seed,
        "versions": package_versions(),
    }


def read_trials(path: Path) -> tuple[Trial, ...]:
    """The trials of a journal, without its header."""
    records = Journal(path).records()
    if not records or records[0].get("schema") != SCHEMA:
        raise CheckpointError("a journal of trials", received="none", where=str(path), cure="run the search")
    return tuple(Trial.from_json(record) for record in records[1:])
