"""Standard output that may be full, or that nobody reads any more."""

from __future__ import annotations

import os
import sys

from avsr.errors import AvsrError


def write_stdout(text: str) -> None:
    """Write ``text`` now.

    Raises:
        AvsrError: it cannot be written, as where the disk is full.
        BrokenPipeError: the reader has seen enough; typer ends quietly.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise give_up_stdout(error) from error


def give_up_stdout(error: OSError) -> AvsrError:
    """Return the error that says so.

    What could not be written stays in the buffer, and would fail once more when the interpreter ends: it goes nowhere.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return AvsrError(f"standard output cannot be written to: {error.strerror}; write to another place")
