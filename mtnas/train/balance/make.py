"""Make a balancing method by its name."""

from __future__ import annotations

from collections.abc import Mapping

from mtnas.base.tables import lookup
from mtnas.train.balance.base import Balance
from mtnas.train.balance.needs import check_packages
from mtnas.train.balance.table import BALANCES


def make_balance(name: str, weights: Mapping[str, float]) -> Balance:
    """A new method; `weights` are the tasks' fixed weights. Raises `PackageMissing` before anything is trained."""
    method: type[Balance] = lookup(name, BALANCES, "balance", "train.balance")
    check_packages(name)
    return method(weights)
