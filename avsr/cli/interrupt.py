"""Ctrl-C, SIGTERM and SIGHUP end in order what is under way, even where it waits for a pipe that says nothing."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
STOP_S = 2.0
"""How long work may take to end after Ctrl-C; what takes longer waits for something that may never come."""
POLL_S = 0.2
"""How long the main thread waits in one go: on Windows a wait hears no Ctrl-C."""
WISHES = (signal.SIGTERM,) if sys.platform == "win32" else (signal.SIGTERM, signal.SIGHUP)
"""The system's wish to stop, and the end of the terminal."""


@contextmanager
def heed_wishes() -> Iterator[None]:
    """Let `WISHES` do what Ctrl-C does, but exit with 128 and their number; for the whole of a command.

    They come in pairs, from a shell and from the system, of which one counts; a later one ends what still goes on.
    """
    wish, heard_at_s = None, 0.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal wish, heard_at_s
        if wish is None or time.monotonic() - heard_at_s > STOP_S:
            wish, heard_at_s = number, time.monotonic()
            raise KeyboardInterrupt

    with _handled(interrupt, *WISHES):
        try:
            yield
        except SystemExit as exited:
            if exited.code != INTERRUPTED or wish is None:
                raise
            raise SystemExit(128 + wish) from None


@contextmanager
def until_interrupted(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on Ctrl-C or one of `WISHES`, to end in order; a second Ctrl-C ends at once."""
    heed: dict[int, Any] = {number: signal.getsignal(number) for number in WISHES}

    def interrupt(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        elif callable(handler := heed[number]):
            try:
                handler(number, frame)
            except KeyboardInterrupt:  # it counts
                pass
            else:
                return
        stop()

    with _handled(interrupt, signal.SIGINT, *WISHES):
        yield


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


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], *numbers: int) -> Iterator[None]:
    """Let ``handler`` hear signals, but for the wishes that whoever started this lets nobody hear, as nohup SIGHUP."""
    old = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if number == signal.SIGINT or old[number] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, old[number])
