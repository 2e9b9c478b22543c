"""Standard streams that may be full, closed, or that nobody reads any more."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from avsr.errors import AvsrError

if TYPE_CHECKING:
    from rich.console import Console


class StdoutError(OSError):
    """Standard output, and no other file, cannot be written to."""


def open_streams() -> None:
    """Make the standard streams fit for work that must not end because of them; for the first thing that is done.

    What is closed goes nowhere: the next file that is opened would take its number, and with it what is printed. What
    cannot be said on standard error stays unsaid; what standard output does not take is a `StdoutError`. A name that a
    terminal cannot show must not end the work either.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is that of the closed one
            os.set_inheritable(nowhere, True)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))
    for name, kind in (("stdout", _Stdout), ("stderr", _Stderr)):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, kind(stream))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def give_up_stdout(error: OSError) -> AvsrError:
    """Return the error that says so.

    What could not be written stays in the buffer, and would fail once more when the interpreter ends: it goes nowhere.
    """
    lead_stdout_nowhere()
    return AvsrError(f"standard output cannot be written to: {error.strerror}; write to another place")


def lead_stdout_nowhere() -> None:
    """Let standard output take in silence what it holds and what is still to come."""
    _lead_nowhere(sys.stdout.fileno())


def table_console() -> Console:
    """Return where a table is printed; in a pipe every row keeps to its own line, however long it is."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=10_000)


def note(text: str) -> None:
    """Say something to the person who started the command; where it cannot be said, the work goes on."""
    with suppress(OSError):
        print(f"avsr: {text}", file=sys.stderr, flush=True)


def note_about(name: str, text: str) -> None:
    """Say something of ``name``, which is told once."""
    note(text if name in text else f"{name}: {text}")


class _Stdout(io.TextIOWrapper):
    """Tells its errors from those of other files; a terminal that is gone takes what is written to it in silence."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.buffer, stream.encoding, errors="replace", line_buffering=True)
        self._was_terminal = self.isatty()

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._answer(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._answer(error)

    def _answer(self, error: OSError) -> None:
        if error.errno == errno.EIO and self._was_terminal:
            _lead_nowhere(self.fileno())
        elif isinstance(error, BrokenPipeError):
            raise error
        else:
            raise StdoutError(error.errno, error.strerror) from error


class _Stderr(io.TextIOWrapper):
    """Takes in silence what cannot be written."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.buffer, stream.encoding, errors="replace", line_buffering=True)

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _lead_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
