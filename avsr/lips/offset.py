"""How late the pictures come against the sound: measured on lips that move with the voice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from avsr.lips.sync import MAX_LAG_TICKS, NEAR_TICKS, QUIET_DB, best_lag, correlate
from avsr.types import TICK_MS

WINDOW_TICKS = 100
"""Ticks that are correlated at once (4 s)."""
MIN_WINDOWS = 4
"""Windows with a moving mouth and a voice before anything is concluded (16 s of speech)."""
MEMORY_WINDOWS = 12
"""About as many windows are averaged."""
MIN_CORRELATION = 25.0
MIN_GAIN = 8.0
"""The best shift must correlate so well, and by so much better than shifts near the present one; per cent."""


@dataclass(frozen=True, slots=True)
class OffsetMeter:
    """What is known so far of how late the pictures are, beyond the offset that is corrected already; immutable."""

    openings: tuple[float | None, ...] = ()
    loudness_db: tuple[float, ...] = ()
    curve: tuple[float, ...] | None = None
    num_windows: int = 0

    def seen(self, mouth_opening: Sequence[float | None], loudness_db: Sequence[float | None]) -> OffsetMeter:
        """Return the meter after some ticks: how open the mouth, how loud the sound; None where not seen or heard."""
        openings = self.openings + tuple(mouth_opening)
        levels = self.loudness_db + tuple(QUIET_DB if level is None else level for level in loudness_db)
        if len(openings) < WINDOW_TICKS:
            return replace(self, openings=openings, loudness_db=levels)
        curve = correlate(openings, np.array(levels, np.float32))
        if curve is None:
            return replace(self, openings=(), loudness_db=())
        if self.curve is None:
            return OffsetMeter(curve=tuple(map(float, curve)), num_windows=1)
        share = 1 / min(self.num_windows + 1, MEMORY_WINDOWS)
        mean = tuple(old + share * (new - old) for old, new in zip(self.curve, curve, strict=True))
        return OffsetMeter(curve=mean, num_windows=self.num_windows + 1)

    @property
    def late_ms(self) -> int | None:
        """How late the pictures still are; None while nothing is sure, or where they are right within 80 ms."""
        if self.curve is None or self.num_windows < MIN_WINDOWS:
            return None
        lag = best_lag(self.curve)
        middle = MAX_LAG_TICKS
        near = max(self.curve[middle - NEAR_TICKS : middle + NEAR_TICKS + 1])
        best = self.curve[lag + middle]
        if abs(lag) <= NEAR_TICKS or best < MIN_CORRELATION or best - near < MIN_GAIN:
            return None
        return lag * TICK_MS
