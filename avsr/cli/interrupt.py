"""Ctrl-C that ends in order what is under way, even where it waits for a pipe that says nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
STOP_S = 2.0
"""How long work may take to end after Ctrl-C; what takes longer waits for something that may never come."""
POLL_S = 0.2
"""How long the main thread waits in one go: on Windows a wait hears no Ctrl-C."""


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


def interruptible(work: Callable[[], T], stop: Callable[[], None]) -> T:
    """Do ``work`` in a thread and return its result, so that Ctrl-C is heard while it waits for FFmpeg.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after ``stop`` was called and the work has ended, or waits for its source.
        BaseException: whatever ``work`` raises.
    """
    from avsr.media.thread import in_thread

    future = in_thread(work)
    try:
        while not wait((future,), POLL_S).done:
            pass
        return future.result()
    except KeyboardInterrupt:
        stop()
        wait((future,), STOP_S)
        raise
