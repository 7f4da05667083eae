"""The trees of the presets, written once for each module that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fabricated import build


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The tree of a preset, written once."""
    made: dict[str, Path] = {}
    with pytest.MonkeyPatch.context() as patch:

        def get(name: str) -> Path:
            if name not in made:
                made[name] = build(name, tmp_path_factory.mktemp("trees") / name, patch)
            return made[name]

        yield get
