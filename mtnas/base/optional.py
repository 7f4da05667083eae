"""The one door to optional packages: imported on first use, or an error naming the extra."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from mtnas.base.errors import PackageMissing


def require(module: str, *, extra: str | None = None, why: str = "") -> ModuleType:
    """Import `module`, or raise `PackageMissing` naming what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        target = f'"mtnas[{extra}]"' if extra else package
        raise PackageMissing(
            f"the package {package!r}{' for ' + why if why else ''}",
            received=str(error),
            where="optional package",
            cure=f"pip install {target}",
        ) from error


def available(module: str) -> bool:
    """Whether `module` can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
