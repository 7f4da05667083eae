"""Small networks and a quick protocol for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from measure_subject import cut, features, pool, quick_config, selection

from mtnas.measure.config import MeasureConfig
from mtnas.measure.profile import Profile, build_profile


@pytest.fixture(scope="session")
def chain() -> Callable[..., bytes]:
    """Networks of four equally wide convolutions."""
    return lambda width: cut(selection(*[width] * 4))


@pytest.fixture(scope="session")
def quick() -> MeasureConfig:
    return quick_config()


@pytest.fixture(scope="session")
def profile_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="session")
def profile(profile_folder: Path) -> Profile:
    """A really measured profile of sixteen sub-networks."""
    return build_profile(cut, features, pool(), quick_config(), profile_folder)
