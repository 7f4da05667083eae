"""Where the shipped data lies: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

from mtnas.base.errors import InternalError


def resource_folder(name: str) -> Path:
    """The folder `search_spaces` or `hardware_profiles`, wherever mtnas is installed."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_data" / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise InternalError(f"the data folder {name!r} is neither in the package nor beside it")
