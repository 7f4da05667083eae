"""How a run looks in a terminal: bars where there is one, plain lines where there is none. All goes to stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichBars

_LINE_EVERY_S = 10.0


def _text(fields: dict[str, float | int | str]) -> str:
    return "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in fields.items()
    )


class RichTask:
    """One bar in a terminal."""

    def __init__(self, bars: RichBars, title: str, total: int, done: int) -> None:
        self._bars = bars
        self._id = bars.add_task(title, total=total, completed=done, fields="")

    def advance(self, steps: int = 1, **fields: float | int | str) -> None:
        self._bars.update(self._id, advance=steps, fields=_text(fields))

    def __enter__(self) -> RichTask:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


class LineTask:
    """One bar as a line every few seconds, for logs."""

    def __init__(self, console: Console, title: str, total: int, done: int) -> None:
        self._console, self._title, self._total, self._done = console, title, total, done
        self._began, self._first, self._last = time.monotonic(), done, time.monotonic()

    def advance(self, steps: int = 1, **fields: float | int | str) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S:
            self._last = now
            self._line(fields)

    def _line(self, fields: dict[str, float | int | str]) -> None:
        elapsed = time.monotonic() - self._began
        rate = (self._done - self._first) / elapsed if elapsed > 0 else 0.0
        left = f"eta {max(self._total - self._done, 0) / rate:.0f} s" if rate > 0 and "eta" not in fields else ""
        parts = (f"{self._title} {self._done}/{self._total}", left, _text(fields))
        self._console.print("  " + "  ".join(part for part in parts if part), highlight=False, markup=False)

    def __enter__(self) -> LineTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        elapsed = time.monotonic() - self._began
        if elapsed > 2.0:
            self._console.print(f"  {self._title}: {self._done}/{self._total} in {elapsed:.0f} s", highlight=False)


class ConsoleProgress:
    """The `Progress` that a person sees."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    def task(self, title: str, total: int, done: int = 0) -> RichTask | LineTask:
        if not self.console.is_terminal:
            return LineTask(self.console, title, total, done)
        bars = RichBars(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[fields]}"),
            console=self.console,
        )
        return RichTask(bars, title, total, done)

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
