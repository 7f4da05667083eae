"""The search loop: ask, evaluate, write down, tell. Ours, so that every strategy resumes exactly.

A journal begins with a header that says what is searched, followed by one record per trial. Resuming replays the
journal into a fresh strategy with the same seed: proposals come out as before, outcomes are read instead of evaluated,
and the search goes on where it stopped. An interruption loses at most the evaluation that was running.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from mtnas.base.progress import Progress, Silent
from mtnas.base.seeds import derive_seed
from mtnas.base.tables import lookup
from mtnas.search.config import SearchConfig
from mtnas.search.journal import TrialJournal
from mtnas.search.problem import Evaluate, Problem
from mtnas.search.proposals import Proposals
from mtnas.search.strategies.base import Strategy, StrategySettings
from mtnas.search.strategies.table import STRATEGIES
from mtnas.search.trial import Outcome, Trial
from mtnas.space.arch import Arch

#: tells which archs are the same network
Same = Callable[[Arch], Hashable]


def _arch_id(arch: Arch) -> Hashable:
    return arch.id


def search(
    problem: Problem,
    evaluate: Evaluate,
    config: SearchConfig,
    journal: Path,
    *,
    seed: int,
    progress: Progress | None = None,
    same: Same = _arch_id,
) -> tuple[Trial, ...]:
    """Evaluate up to `config.trials` different archs; fewer when the space has no more.

    Args:
        problem: space, objectives, constraints.
        evaluate: scores one arch; called once for each network that the journal does not hold.
        config: strategy and number of trials; `trials` may be raised later to go on.
        journal: JSON lines; made when missing, refused with `CheckpointError` when it belongs to another search.
        seed: root seed of the strategy.
        progress: told after each trial.
        same: equal for archs that are one network, such as those that differ in skipped blocks alone; the second of
            them is a trial of its own, with the outcome of the first.

    Returns:
        All trials in order; equal, but for `seconds`, whether or not the search was interrupted.
    """
    progress = progress or Silent()
    book = TrialJournal(journal, problem, config, seed)
    proposals = Proposals(problem.space, make_strategy(problem, config, seed), config.max_repeats, seed)
    trials: list[Trial] = []
    known: dict[Hashable, Outcome] = {}
    with progress.task(f"search {config.strategy}", config.trials, done=min(len(book.past), config.trials)) as bar:
        while len(trials) < config.trials:
            proposal = proposals.next()
            if proposal is None:
                progress.note(f"search ends early: all {len(trials)} networks of this space have been evaluated")
                break
            arch, origin = proposal
            trial = book.recall(len(trials), arch)
            if trial is None:
                trial = replace(
                    _evaluate(problem, _remembering(known, evaluate, same), len(trials), arch),
                    strategy=config.strategy,
                    origin=origin,
                )
                book.write(trial)
                bar.advance(feasible=sum(t.feasible for t in trials) + trial.feasible)
            trials.append(trial)
            known.setdefault(same(arch), trial.outcome)
            proposals.tell(trial)
    return tuple(trials)


def make_strategy(problem: Problem, config: SearchConfig, seed: int) -> Strategy:
    """The strategy that a configuration names; `PackageMissing` when its package is not installed."""
    strategy = lookup(config.strategy, STRATEGIES, "search strategy", "search.strategy")
    return strategy(StrategySettings(problem, config.population, derive_seed(seed, "search", config.strategy)))


def reuse(trials: Iterable[Trial], evaluate: Evaluate, same: Same = _arch_id) -> Evaluate:
    """`evaluate`, but networks of earlier trials are answered from them: lines of one benchmark share their work."""
    return _remembering({same(trial.arch): trial.outcome for trial in trials}, evaluate, same)


def _remembering(known: Mapping[Hashable, Outcome], evaluate: Evaluate, same: Same) -> Evaluate:
    def answer(arch: Arch) -> Outcome:
        key = same(arch)
        return known[key] if key in known else evaluate(arch)

    return answer


def _evaluate(problem: Problem, evaluate: Evaluate, number: int, arch: Arch) -> Trial:
    start = time.perf_counter()
    outcome = evaluate(arch)
    seconds = round(time.perf_counter() - start, 4)
    trial = problem.trial(number, arch, outcome, seconds)
    # Through the record's form: what a strategy learns now is what it will learn from the journal.
    return Trial.from_json(trial.to_json())
