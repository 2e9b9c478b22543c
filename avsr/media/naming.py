"""What sources are called where names are shown, logged, piped and written, and in errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from avsr.errors import InputError, MediaError


def name_of(source: str | Path | BinaryIO) -> str:
    """Return the path, the URL without its password, or what else tells which source it is."""
    if str(source) == "-":
        return "standard input"
    name = source if isinstance(source, str | Path) else getattr(source, "name", "the open file")
    return without_password(as_utf8(str(name)))


def as_utf8(text: str) -> str:
    """Return ``text`` as it can be printed and written: the name of a file need not be UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def without_password(url: str) -> str:
    """Return ``url`` without the user and the password in it."""
    return re.sub(r"://[^/?#]*@", "://", url)


def reason_of(error: BaseException) -> str:
    """Return why the system, FFmpeg or a library refused, to go on with in a sentence."""
    return str(getattr(error, "strerror", None) or without_password(str(error))).rstrip(".")


def told_apart(names: Iterable[str], pattern: str = "{} ({})") -> tuple[str, ...]:
    """Return ``names``, of which no two are alike: by this ``pattern`` a second "Webcam" is "Webcam (2)"."""
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
    """Say of which file it is that something cannot be used, such as its rate.

    Raises:
        MediaError: an InputError came up.
    """
    try:
        yield
    except InputError as error:
        raise MediaError(f"{name}: {error}") from error
