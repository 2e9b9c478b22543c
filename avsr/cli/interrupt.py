"""Ctrl-C that ends in order what is under way."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def until_interrupted(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on Ctrl-C or SIGTERM, to end in order; a second one ends at once."""

    def interrupt(number: int, frame: object) -> None:
        signal.signal(number, signal.default_int_handler)
        stop()

    old = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
