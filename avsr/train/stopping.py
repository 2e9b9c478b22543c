"""Ctrl-C, SIGTERM and SIGHUP only set a flag, so that training stops between two steps and not within one."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a request to end, and the closing of the terminal."""
STOP_PATIENCE_S = 30.0
"""How long a new run waits for the lock of one that was just told to stop and is writing its checkpoint."""


def leave_terminal_to_parent() -> None:
    """Ignore SIGINT and SIGHUP, which a terminal sends to all its processes: the parent decides when this one ends."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class StopRequest:
    """While entered, `SIGNALS` only set a flag; a second Ctrl-C interrupts at once.

    In a child process, the death of the parent sets it too.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._before: dict[signal.Signals, Any] = {}

    def is_asked(self) -> bool:
        """Whether to stop after the current step."""
        parent = multiprocessing.parent_process()
        return self._is_asked or (parent is not None and not parent.is_alive())

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._is_asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._is_asked = True
