"""A thread for what may wait for ever: FFmpeg hears no Ctrl-C while it waits for a pipe, a FIFO or a network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Do ``work`` in a thread that keeps no program from ending: a pipe may never deliver anything."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    future.set_running_or_notify_cancel()
    threading.Thread(target=run, name="avsr-media", daemon=True).start()
    return future
