"""Limits of what one server and one client may use."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from avsr.serve.protocol import Picture, Sound, StatedLimits

DEFAULT_MAX_SESSIONS = 3
"""Two cores held four, clients included (`python benchmarks/serve.py`); one less, as hosts are not always idle."""
PICTURES_PER_S = 30
"""A camera's rate, and a little more than the 25 that are used."""
BURST_S = 2.0
"""A client may be ahead of its rates by this much, to allow for jitter."""

PAUSE_S = 30.0
"""A gap in stream time counts up to this much: then the stream sleeps and costs nothing. Also the burst for gaps."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_sessions`` and ``max_newcomers`` are for the whole server, all others for each connection."""

    max_sessions: int = DEFAULT_MAX_SESSIONS
    max_newcomers: int = 60
    max_speed: float = 2.0
    max_message_bytes: int = 4 * 2**20
    max_picture_side: int = 1280
    max_messages_per_s: float = 300.0
    max_bytes_per_s: float = 16 * 2**20
    config_s: float = 10.0
    idle_s: float = 30.0
    total_s: float = 4 * 3600.0
    resume_s: float = 30.0
    stalled_s: float = 10.0
    max_waiting_events: int = 256

    @property
    def max_connections(self) -> int:
        """Websockets that may be open: one a stream, and newcomers that have not sent their config yet."""
        return self.max_sessions + self.max_newcomers

    def stated(self) -> StatedLimits:
        """Return what clients are told."""
        return StatedLimits.model_validate(self, from_attributes=True)


class Bucket:
    """A token bucket that may go negative; the caller then waits until it is refilled to 0."""

    def __init__(self, per_s: float, clock: Callable[[], float], burst_s: float = BURST_S) -> None:
        self._per_s, self._clock = per_s, clock
        self._level = self._most = per_s * burst_s
        self._then = clock()

    def take(self, amount: float) -> float:
        """Take ``amount``; return for how many seconds to wait before going on."""
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._then) * self._per_s) - amount
        self._then = now
        return max(0.0, -self._level / self._per_s)


class Pace:
    """Computes how long to wait before reading on, so that a client keeps to the rates of ``limits``."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._messages = Bucket(limits.max_messages_per_s, clock)
        self._bytes = Bucket(limits.max_bytes_per_s, clock)
        self._sound_s = Bucket(limits.max_speed, clock)
        self._pictures = Bucket(limits.max_speed * PICTURES_PER_S, clock)
        self._stream_s = Bucket(limits.max_speed, clock, PAUSE_S)
        self._newest_s: float | None = None

    def message(self, num_bytes: int) -> float:
        """Return how many seconds to wait after a message of this size."""
        return max(self._messages.take(1), self._bytes.take(num_bytes))

    def media(self, message: Sound | Picture) -> float:
        """Return how many seconds to wait before this is recognised."""
        wait_s = self._stream_s.take(self._passed_s(message.t_s))
        if isinstance(message, Picture):
            return max(wait_s, self._pictures.take(1))
        return max(wait_s, self._sound_s.take(len(message.samples) / message.sample_rate))

    def _passed_s(self, t_s: float) -> float:
        """By how much ``t_s`` advances stream time: gaps cost computation too."""
        before_s, self._newest_s = self._newest_s, t_s if self._newest_s is None else max(t_s, self._newest_s)
        return 0.0 if before_s is None else min(max(0.0, t_s - before_s), PAUSE_S)
