"""A progress bar on stderr: a share of the input where its length is known, else the time reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Shows how far an input has been read; remembers it, shown or not."""

    def __init__(self, title: str, *, is_shown: bool) -> None:
        self.position_s = 0.0
        self._is_shown = is_shown
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[reached]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            # Standard output is the transcript's: rich would send it to stderr, bar and all.
            redirect_stdout=False,
            disable=not is_shown,
        )
        self._task = self._progress.add_task(escape(title), total=None, reached="")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, position_s: float, duration_s: float | None) -> None:
        """Show that the input has been read up to ``position_s`` of ``duration_s`` (None: unknown)."""
        self.position_s = position_s
        reached = f"{position_s:.0f} s" if duration_s is None else f"{position_s:.0f} of {duration_s:.0f} s"
        self._progress.update(self._task, completed=position_s, total=duration_s, reached=reached)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bar off the screen while something else is printed."""
        if self._is_shown:
            self._progress.stop()
        yield
        if self._is_shown:
            self._progress.start()
