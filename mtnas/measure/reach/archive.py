"""The device room as one file: a zip that any Python from 3.8 on runs, the same bytes wherever it is built."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

import mtnas.device

_MAIN = "import sys\n\nfrom mtnas.device.main import main\n\nsys.exit(main(sys.argv[1:]))\n"
_STAMP = (1980, 1, 1, 0, 0, 0)


@cache
def runner_archive() -> bytes:
    """The bytes of `runner.pyz`: stored, sorted, without times, so that equal sources give equal bytes."""
    sources = {f"mtnas/device/{path.name}": path.read_bytes() for path in Path(mtnas.device.__path__[0]).glob("*.py")}
    files = {**sources, "__main__.py": _MAIN.encode(), "mtnas/__init__.py": b""}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _STAMP), files[name])
    return buffer.getvalue()


def runner_sha256() -> str:
    """The name under which a device keeps this runner."""
    return hashlib.sha256(runner_archive()).hexdigest()
