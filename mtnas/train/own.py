"""Train some tasks without touching the others: what any other task needs is frozen meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mtnas.base.errors import JobError
from mtnas.elastic.model import ElasticModel


@contextmanager
def only_own(elastic: ElasticModel, tasks: Iterable[str]) -> Iterator[None]:
    """Inside, only parameters that serve these tasks alone are trained; all others keep their values to the bit.

    Outputs of the other tasks stay as they are, too, since batch-norm statistics follow from the weights and the
    calibration images.

    Raises `JobError` when nothing is the tasks' own.
    """
    names = set(tasks)
    owned = {name for name, owners in elastic.parameter_owners.items() if owners and set(owners) <= names}
    frozen = [p for name, p in elastic.model.named_parameters() if name not in owned and p.requires_grad]
    if not any(p.requires_grad for name, p in elastic.model.named_parameters() if name in owned):
        raise JobError(
            "parameters that serve these tasks alone",
            received=", ".join(sorted(names)),
            where="train, own",
            cure="train all of the network (own=False), or give the tasks a decoder",
        )
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
