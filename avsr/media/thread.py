"""A thread for calls that may never return: FFmpeg ignores Ctrl-C while it waits for a pipe, a FIFO or a network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Do ``work`` in a daemon thread, so that the program can exit even if it never returns."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    future.set_running_or_notify_cancel()
    threading.Thread(target=run, name="avsr-media", daemon=True).start()
    return future
