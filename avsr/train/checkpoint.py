"""Weights and states of training in files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from avsr.disk import unwritable, whole_file
from avsr.errors import InputError


def write_tensors(path: Path, values: dict[str, Any]) -> None:
    """Write ``values`` to ``path``, which never holds half of them.

    Raises:
        InputError: it cannot be written, as where the disk is full.
    """
    try:
        with whole_file(path) as file:
            torch.save(values, file)
    except RuntimeError as error:  # PyTorch's own of a full disk
        raise unwritable(path, error) from error


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
