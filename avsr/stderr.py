"""Standard error without what libraries write there."""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO


class SilentStderr:
    """Sends what C and C++ write to file descriptor 2 nowhere: the logs of MediaPipe and ALSA have no other switch.

    The descriptor is the whole process's. So threads that overlap share one muting: the first in begins it, the last
    out ends it. What Python writes to ``sys.stderr`` meanwhile, in whichever thread, is still shown. Where the
    descriptor is closed, as in some daemons, nothing is done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._saved: int | None = None
        self._pythons: TextIO | None = None
        self._aside: TextIO | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._begin()
            self._num_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0 and self._saved is not None:
                os.dup2(self._saved, 2)
                os.close(self._saved)
                self._saved = None
                if self._pythons is not None and sys.stderr is self._aside:
                    sys.stderr = self._pythons

    def _begin(self) -> None:
        try:
            self._saved = os.dup(2)
        except OSError:  # it is closed
            return
        self._step_aside()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    def _step_aside(self) -> None:
        """Let ``sys.stderr`` write to a copy of descriptor 2. It is never closed: threads may keep a reference."""
        self._pythons = None
        try:
            if sys.stderr is None or sys.stderr.fileno() != 2:
                return
        except (OSError, ValueError):  # it has no descriptor
            return
        sys.stderr.flush()
        if self._aside is None:
            self._aside = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors)
        os.dup2(2, self._aside.fileno(), inheritable=False)  # it may lead elsewhere since the last time
        self._pythons, sys.stderr = sys.stderr, self._aside


silent_stderr = SilentStderr()
"""The only one: MediaPipe and PortAudio are opened in threads that do not know of each other."""
