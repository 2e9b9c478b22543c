"""Files that a kill at any moment leaves whole, directories that one run at a time writes, and errors that say so."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from avsr.errors import InputError

LOCK_FILE = ".lock"
RETRY_S = 0.1
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None}
"""Errors of a full disk; what has no number, as of PyTorch's writer, may be one."""


def prepare_directory(directory: str | Path) -> None:
    """Make ``directory`` unless it is there, and try whether a file can be written in it.

    Raises:
        InputError: it cannot be made or written to.
    """
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be written to: {error.strerror}; choose another directory for -o"
        ) from error


def lock(directory: Path, *, patience_s: float = 0.0) -> IO[str]:
    """Make ``directory`` where it is not there, and keep other processes from writing it until the file is closed.

    Raises:
        InputError: it cannot be written, or another process is writing it, and did not end within ``patience_s``.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held = (directory / LOCK_FILE).open("w")
        try:
            hold(held, directory, patience_s=patience_s)
        except BaseException:
            held.close()
            raise
    except OSError as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror}); choose another directory") from error
    return held


def hold(file: IO[Any], directory: Path, *, patience_s: float = 0.0) -> None:
    """Do the same by a ``file`` that is open in ``directory``.

    Raises:
        InputError: another process holds it, and did not end within ``patience_s``.
        OSError: the file system cannot tell.
    """
    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the system even when this process is killed
            return
        except BlockingIOError as error:
            if time.monotonic() >= give_up_s:
                raise InputError(f"{directory}: another process is writing it; wait for it or stop it") from error
            time.sleep(RETRY_S)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write ``path`` such that it has its old content or all of the new one, whenever this process dies.

    One process at a time may: what a killed one left, ``path`` and ``.partial``, is written over.

    Raises:
        InputError: it cannot be written.
    """
    with writing(path), replacing(path, f"{path.name}.partial") as file:
        yield file


def write_whole(path: Path, content: str | bytes) -> None:
    """Do the same where others may be writing ``path``, too: the last one wins.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode())


@contextmanager
def replacing(path: Path, scratch_name: str | None = None) -> Iterator[IO[bytes]]:
    """Write what takes the place of ``path`` when it is whole; until then it is called ``scratch_name``.

    None gives it a name that no other file has.

    Raises:
        OSError: it cannot be written.
    """
    scratch = path.with_name(scratch_name or f".avsr-{uuid.uuid4().hex}.part")
    try:
        with scratch.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


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
    is_full = getattr(error, "errno", None) in NO_ROOM
    advice = "make room if the disk is full, and run it again" if is_full else "choose another place, or mend this one"
    return InputError(f"{path}: cannot be written ({reason}); {advice}")
