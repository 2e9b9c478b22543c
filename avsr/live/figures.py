"""How late captions are, how long chunks take, and what was dropped: measured while it runs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

MAX_KEPT = 2000
"""Newest measurements kept for the percentiles."""
RATE_SPAN_S = 5.0
"""A camera's rate is measured over spans of this length."""
BREAK_S = 1.0
"""A longer gap between pictures is an interruption, and does not count as a low rate."""


def _kept() -> deque[float]:
    return deque(maxlen=MAX_KEPT)


@dataclass(slots=True)
class Figures:
    """Milliseconds from capture to caption, of the newest sound or picture that the caption needed; and compute times.

    ``step_ms`` is the time from a complete chunk to its captions, ``chunk_ms`` all work on it, including finding lips
    while it fills.

    Because the machine was too slow, ``dropped_pictures`` were not used, and ``overflown_pictures`` and
    ``dropped_sound_s`` of sound were lost in the queue.
    """

    partial_ms: deque[float] = field(default_factory=_kept)
    final_ms: deque[float] = field(default_factory=_kept)
    step_ms: deque[float] = field(default_factory=_kept)
    chunk_ms: deque[float] = field(default_factory=_kept)
    num_chunks: int = 0
    dropped_pictures: int = 0
    overflown_pictures: int = 0
    dropped_sound_s: float = 0.0

    def lines(self) -> tuple[str, ...]:
        """Return the figures for people."""
        found = []
        for name, values in (
            ("capture to partial", self.partial_ms),
            ("capture to final", self.final_ms),
            ("complete chunk to captions", self.step_ms),
            ("total processing per chunk", self.chunk_ms),
        ):
            if values:
                found.append(f"{name}: {percentile(values, 50):.0f} ms median, {percentile(values, 99):.0f} ms p99")
        num_pictures = self.dropped_pictures + self.overflown_pictures
        if num_pictures or self.dropped_sound_s:
            found.append(f"dropped: {num_pictures} video frames, {self.dropped_sound_s:.1f} s of audio")
        return tuple(found)


@dataclass(slots=True)
class PictureRate:
    """How many pictures a second a camera takes: in poor light many take a third of what they were asked for."""

    _first_s: float = float("-inf")
    _newest_s: float = float("-inf")
    _num_since: int = 0

    def seen(self, time_s: float) -> float | None:
        """Count the picture of that time; return the rate where a span without a break is full, else None."""
        if not 0 <= time_s - self._newest_s < BREAK_S:
            self._first_s, self._num_since = time_s, -1
        self._newest_s, self._num_since = time_s, self._num_since + 1
        if time_s - self._first_s < RATE_SPAN_S:
            return None
        rate_hz = self._num_since / (time_s - self._first_s)
        self._first_s, self._num_since = time_s, 0
        return rate_hz


def percentile(values: deque[float], percent: float) -> float:
    """Return a percentile of a measurement."""
    return float(np.percentile(np.array(values), percent))
