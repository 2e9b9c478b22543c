"""Atomic writing of files, locks on directories, and errors that name the file and say what to do."""

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
"""Errors of a full disk; an error without a number, as PyTorch's writer raises, may be one."""


def prepare_directory(directory: str | Path) -> None:
    """Make ``directory`` unless it exists, and check that files can be written in it.

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
    """Make ``directory`` unless it exists, and lock it against other processes until the returned file is closed.

    Raises:
        InputError: it cannot be written, or another process held the lock for longer than ``patience_s``.
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
    """Lock an open ``file`` until it is closed; ``directory`` names it in errors.

    Raises:
        InputError: another process held the lock for longer than ``patience_s``.
        OSError: the file system does not support locks.
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
    """Replace ``path`` atomically: if this process dies, the file has its old content or all of the new one.

    For one process at a time: the scratch file is always ``path`` with ``.partial`` behind it, so that what a killed
    process left is overwritten.

    Raises:
        InputError: it cannot be written.
    """
    with writing(path), replacing(path, f"{path.name}.partial") as file:
        yield file


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace ``path`` atomically with ``content``; several processes may do so at once, and the last one wins.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode())


@contextmanager
def replacing(path: Path, scratch_name: str | None = None) -> Iterator[IO[bytes]]:
    """Yield a scratch file in the same directory, which replaces ``path`` when the block ends without an exception.

    ``scratch_name`` None gives it a unique name.

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
    """Turn an OSError of the block into an InputError that names ``path`` and says what to do.

    Raises:
        InputError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: Exception) -> InputError:
    """Return the InputError that says that ``path`` cannot be written, why, and what to do."""
    reason: Any = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
    is_full = getattr(error, "errno", None) in NO_ROOM
    advice = "make room if the disk is full, and run it again" if is_full else "choose another place, or mend this one"
    return InputError(f"{path}: cannot be written ({reason}); {advice}")
