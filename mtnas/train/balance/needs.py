"""Whether the packages behind a balancing method are there. Knows no torch."""

from __future__ import annotations

from mtnas.base.errors import PackageMissing
from mtnas.base.optional import available
from mtnas.train.balance.table import EXTRAS


def check_packages(name: str, where: str = "train.balance") -> None:
    """Raise `PackageMissing` unless everything that the row `name` uses can be imported."""
    missing = [package for package in EXTRAS.get(name, ()) if not available(package)]
    if missing:
        raise PackageMissing(
            f"the package {missing[0]!r} for {where}: {name}",
            received=f"not installed: {', '.join(missing)}",
            where="optional package",
            cure='pip install "mtnas[balance]"',
        )
