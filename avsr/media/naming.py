"""Names of sources and devices for people: in output, logs, files and errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from avsr.errors import InputError, MediaError


def name_of(source: str | Path | BinaryIO) -> str:
    """Return the path, the URL without its password, or another name that identifies the source."""
    if str(source) == "-":
        return "standard input"
    name = source if isinstance(source, str | Path) else getattr(source, "name", "the open file")
    return without_password(as_utf8(str(name)))


def as_utf8(text: str) -> str:
    """Return ``text`` with what UTF-8 cannot encode replaced: the name of a file need not be UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def without_password(url: str) -> str:
    """Return ``url`` without the user and the password in it."""
    return re.sub(r"://[^/?#]*@", "://", url)


def reason_of(error: BaseException) -> str:
    """Return why the system, FFmpeg or a library refused, without a full stop, as part of a sentence."""
    return str(getattr(error, "strerror", None) or without_password(str(error))).rstrip(".")


def told_apart(names: Iterable[str], pattern: str = "{} ({})") -> tuple[str, ...]:
    """Return ``names`` made unique: with the default ``pattern`` a second "Webcam" becomes "Webcam (2)"."""
    found: list[str] = []
    for name in names:
        number, numbered = 1, name
        while numbered in found:
            number += 1
            numbered = pattern.format(name, number)
        found.append(numbered)
    return tuple(found)


@contextmanager
def usable(name: str) -> Iterator[None]:
    """Turn an InputError of the block into a MediaError that begins with ``name``.

    Raises:
        MediaError: the block raised an InputError.
    """
    try:
        yield
    except InputError as error:
        raise MediaError(f"{name}: {error}") from error
