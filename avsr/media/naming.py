"""What sources are called where names are shown, logged, piped and written, and in errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from avsr.errors import InputError, MediaError


def name_of(source: str | Path | BinaryIO) -> str:
    """Return the path, the URL without its password, or what else tells which source it is."""
    if str(source) == "-":
        return "standard input"
    name = source if isinstance(source, str | Path) else getattr(source, "name", "the open file")
    # The name of a file need not be UTF-8, and what is printed and written must be.
    return without_password(str(name).encode("utf-8", "replace").decode("utf-8"))


def without_password(url: str) -> str:
    """Return ``url`` without the user and the password in it."""
    return re.sub(r"://[^/?#]*@", "://", url)


@contextmanager
def usable(name: str) -> Iterator[None]:
    """Say of which file it is that something cannot be used, such as its rate.

    Raises:
        MediaError: an InputError came up.
    """
    try:
        yield
    except InputError as error:
        raise MediaError(f"{name}: {error}") from error
