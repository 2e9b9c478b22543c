"""Files that a kill at any moment leaves whole, and a lock that lets one run at a time write them."""

from __future__ import annotations

import fcntl
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from avsr.errors import InputError

LOCK_FILE = ".lock"
LOCK_PATIENCE_S = 30.0
"""A run that was just told to stop finishes its step and writes its checkpoint first."""


def write_tensors(path: Path, values: dict[str, Any]) -> None:
    """Write ``values`` to ``path``, which never holds half of them.

    Raises:
        InputError: it cannot be written, as where the disk is full.
    """
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: PyTorch's own of a full disk
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be written ({reason}); make room if the disk is full, and go on") from error


def read_tensors(path: Path) -> dict[str, Any]:
    """Read what `write_tensors` wrote, without executing anything in it.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read ({reason}); remove it to train this stage anew") from error
    return values


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold ``directory`` for this process alone.

    Raises:
        InputError: another process holds it, and did not let go.
    """
    with (directory / LOCK_FILE).open("w") as lock:
        give_up_s = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the system even after a kill
                break
            except OSError as error:
                if time.monotonic() > give_up_s:
                    raise InputError(
                        f"{directory}: another process is training here; wait for it or stop it"
                    ) from error
                time.sleep(0.1)
        yield
