"""Small files in which a system tells about itself."""

from __future__ import annotations


def text_of(path: str) -> str | None:
    """What stands in a file, stripped; None where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return None
