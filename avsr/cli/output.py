"""Standard streams that may be closed, on a full disk, or a pipe without a reader."""

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
    """Make the standard streams robust; call this before anything else.

    A closed stream is opened on /dev/null: otherwise the next file opened would get its descriptor, and with it
    whatever is printed. Failed writes to standard error are dropped; those to standard output raise `StdoutError`.
    Characters that the terminal's encoding lacks are replaced.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor: the closed one
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))
    for name, kind in (("stdout", _Stdout), ("stderr", _Stderr)):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, kind(stream))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def give_up_stdout(error: OSError) -> AvsrError:
    """Return the error to report, and discard standard output from now on.

    What could not be written is still in the buffer, and flushing it when the interpreter ends would fail once more.
    """
    discard_stdout()
    return AvsrError(f"standard output cannot be written to: {error.strerror}; write to another place")


def discard_stdout() -> None:
    """Discard what standard output has buffered and all later output."""
    _redirect_to_null(sys.stdout.fileno())


def table_console() -> Console:
    """Return a console for tables; in a pipe it is so wide that no row is wrapped."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=10_000)


def note(text: str) -> None:
    """Print a message for the user on standard error; failures to write are ignored."""
    with suppress(OSError):
        print(f"avsr: {text}", file=sys.stderr, flush=True)


def note_about(name: str, text: str) -> None:
    """Print a message about ``name``, prefixed with it unless ``text`` contains it."""
    note(text if name in text else f"{name}: {text}")


class _Stdout(io.TextIOWrapper):
    """Raises `StdoutError`, to be told from errors of other files; output to a closed terminal is discarded."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.buffer, stream.encoding, errors="replace", line_buffering=True)
        self._was_terminal = self.isatty()

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._handle_error(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._handle_error(error)

    def _handle_error(self, error: OSError) -> None:
        if error.errno == errno.EIO and self._was_terminal:
            _redirect_to_null(self.fileno())
        elif isinstance(error, BrokenPipeError):
            raise error
        else:
            raise StdoutError(error.errno, error.strerror) from error


class _Stderr(io.TextIOWrapper):
    """Ignores write errors."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.buffer, stream.encoding, errors="replace", line_buffering=True)

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _redirect_to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
