"""Orderly shutdown on Ctrl-C, SIGTERM and SIGHUP, even while a thread is blocked on a silent pipe."""

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
"""How long to wait for work to end after Ctrl-C; what takes longer is blocked on input that may never come."""
POLL_S = 0.2
"""The main thread waits in slices of this length, since a wait on Windows cannot be interrupted by Ctrl-C."""
STOP_SIGNALS = (signal.SIGTERM,) if sys.platform == "win32" else (signal.SIGTERM, signal.SIGHUP)
"""Signals that ask for an end: SIGTERM, and SIGHUP when the terminal closes."""


@contextmanager
def handle_stop_signals() -> Iterator[None]:
    """For a whole command: let `STOP_SIGNALS` raise KeyboardInterrupt as Ctrl-C does, but exit with 128 + number.

    A shell and the system may both send one, so a second within `STOP_S` is ignored; a later one interrupts again.
    """
    received, received_at_s = None, 0.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal received, received_at_s
        if received is None or time.monotonic() - received_at_s > STOP_S:
            received, received_at_s = number, time.monotonic()
            raise KeyboardInterrupt

    with _handled(interrupt, *STOP_SIGNALS):
        try:
            yield
        except SystemExit as exited:
            if exited.code != INTERRUPTED or received is None:
                raise
            raise SystemExit(128 + received) from None


@contextmanager
def until_interrupted(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on Ctrl-C or one of `STOP_SIGNALS`, for an orderly end; a second Ctrl-C interrupts at once."""
    outer: dict[int, Any] = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def interrupt(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        elif callable(handler := outer[number]):
            try:
                handler(number, frame)
            except KeyboardInterrupt:  # the outer handler did not ignore it as a duplicate
                pass
            else:
                return
        stop()

    with _handled(interrupt, signal.SIGINT, *STOP_SIGNALS):
        yield


def interruptible(work: Callable[[], T], stop: Callable[[], None]) -> T:
    """Run ``work`` in a thread and return its result, so that Ctrl-C works while FFmpeg blocks.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after ``stop`` was called and the work has ended or `STOP_S` have passed.
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
    """Install ``handler``, except for stop signals that the parent process had ignored, as nohup does with SIGHUP."""
    old = {number: signal.getsignal(number) for number in numbers}
    installed = [number for number in numbers if number == signal.SIGINT or old[number] is not signal.SIG_IGN]
    for number in installed:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in installed:
            signal.signal(number, old[number])
