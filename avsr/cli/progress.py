"""Progress bars on stderr: a share of the input where its length is known, else the time reached; or a count."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def count_bar(what: str, *, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show a bar, if on a terminal; yield a function that updates it: ``show(num_done, num_all, words="")``."""
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    with Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=quiet or not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("", total=None)

        def show(num_done: int, num_all: int, words: str = "") -> None:
            bar.update(task, completed=num_done, total=num_all, description=escape(words))

        yield show


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

    def __exit__(self, *_: object) -> None:
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
