"""How long work reports itself, without printing: a `Progress` is handed down by the caller."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class Task(Protocol):
    """One bar: a context manager that is advanced."""

    def advance(self, steps: int = 1, **fields: float | int | str) -> None: ...
    def __enter__(self) -> Task: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Opens bars and takes one-line notes."""

    def task(self, title: str, total: int, done: int = 0) -> Task: ...
    def note(self, text: str) -> None: ...


class SilentTask:
    """A bar nobody sees."""

    def advance(self, steps: int = 1, **fields: float | int | str) -> None:
        return None

    def __enter__(self) -> SilentTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Silent:
    """The default: nothing is shown."""

    def task(self, title: str, total: int, done: int = 0) -> SilentTask:
        return SilentTask()

    def note(self, text: str) -> None:
        return None
