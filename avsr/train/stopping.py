"""Ctrl-C and the system's wish to stop, noted between steps instead of tearing one."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the system's wish to stop, and the end of the terminal."""
STOP_PATIENCE_S = 30.0
"""How long the next run waits for one that was just told to stop: it finishes its step and writes its checkpoint."""


def leave_terminal_to_parent() -> None:
    """Pass over what a terminal says to all processes at once: the one that this one works for decides when to end."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class StopRequest:
    """While entered, `SIGNALS` are only noted; a second Ctrl-C interrupts at once.

    A process that was started to train one branch is also asked to stop by its parent's death.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._before: dict[signal.Signals, Any] = {}

    def is_asked(self) -> bool:
        """Say whether to stop after the step at hand."""
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
