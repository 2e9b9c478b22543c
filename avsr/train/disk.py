"""Files that a kill at any moment leaves whole, directories that one run at a time writes, and errors that say so."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from avsr.errors import InputError

LOCK_FILE = ".lock"
RETRY_S = 0.1
STOP_PATIENCE_S = 30.0
"""A run that was just told to stop finishes its step and writes its checkpoint first."""


def lock(directory: Path, *, patience_s: float = 0.0) -> IO[str]:
    """Make ``directory`` where it is not there, and keep other processes from writing it until the file is closed.

    Raises:
        InputError: it cannot be written, or another process is writing it, and did not end within ``patience_s``.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held = (directory / LOCK_FILE).open("w")
    except OSError as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror}); choose another directory") from error
    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the system even when this process is killed
            return held
        except OSError as error:
            if time.monotonic() >= give_up_s:
                held.close()
                raise InputError(f"{directory}: another process is writing it; wait for it or stop it") from error
            time.sleep(RETRY_S)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write ``path`` such that it has its old content or all of the new one, whenever this process dies.

    Raises:
        InputError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    with writing(path):
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of what cannot be written, as where the disk is full, which file it is and what to do.

    Raises:
        InputError: an OSError came up.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: Exception) -> InputError:
    """Return the error that says so."""
    reason: Any = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
    return InputError(f"{path}: cannot be written ({reason}); make room if the disk is full, and go on")
