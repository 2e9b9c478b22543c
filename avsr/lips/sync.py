"""Do the lips move with the sound, and by how many ticks would they have to be shifted to fit best?

The measure is the correlation of the slopes, tick by tick, of the mouth's opening and of the loudness in dB: a mouth
opens as a syllable swells. In 36 sentences of GRID (3 s each), four of five clips correlate best within 2 ticks of
their true offset. `OUTLIER_MARGIN` finds half of the copies that were shifted by 5 or 8 ticks, and wrongly suspects one
of the 36 originals. The mean curve of several clips of one speaker is more reliable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from avsr.types import FloatArray

MAX_LAG_TICKS = 12
"""Largest shift that is tried, either way (0.48 s)."""
LEAST_TICKS = 50
"""Clips under 2 s are too short to measure."""
LEAST_SEEN = 0.9
"""Share of the ticks that need a face."""
QUIET_DB = -60.0
"""Lower levels are raised to this, so that differences between silences do not count."""
NEAR_TICKS = 2
"""Shifts up to this are within the accuracy of the measure."""
OUTLIER_MARGIN = 0.2
"""A clip is suspect when its correlation is higher by this at another shift than near the expected one."""


def correlate(openings: Sequence[float | None], loudness_db: FloatArray) -> tuple[int, ...] | None:
    """Return the correlation in per cent at shifts of -12 to 12 ticks; positive: the lips come late.

    ``openings`` is the mouth's opening at each tick, None without a face; ``loudness_db`` f32 (T,). Returns None where
    the clip is too short, too seldom seen, or nothing moves.
    """
    seen = np.array([opening is not None for opening in openings], np.bool_)
    if len(seen) < LEAST_TICKS or seen.mean() < LEAST_SEEN:
        return None
    ticks = np.arange(len(seen))
    opening = np.interp(ticks, ticks[seen], [value for value in openings if value is not None])
    lips, sound = np.gradient(opening), np.gradient(np.maximum(loudness_db.astype(np.float64), QUIET_DB))
    if lips.std() < 1e-6 or sound.std() < 1e-6:
        return None
    lags = range(-MAX_LAG_TICKS, MAX_LAG_TICKS + 1)
    return tuple(round(100 * _correlation(lips[max(0, lag) :], sound[max(0, -lag) :])) for lag in lags)


def best_lag(curve: Sequence[float]) -> int:
    """Return the shift, in ticks, at which a curve of `correlate` is highest."""
    return int(np.argmax(curve)) - MAX_LAG_TICKS


def is_outlier(curve: Sequence[float], expected_lag: int, margin: float = OUTLIER_MARGIN) -> bool:
    """Tell whether a curve is higher by ``margin`` elsewhere than near ``expected_lag``."""
    values = np.asarray(curve, np.float64) / 100
    middle = expected_lag + MAX_LAG_TICKS
    near = values[max(0, middle - NEAR_TICKS) : middle + NEAR_TICKS + 1]
    return bool(values.max() - near.max() > margin)


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    length = min(len(a), len(b))
    a, b = a[:length] - a[:length].mean(), b[:length] - b[:length].mean()
    return float(np.dot(a, b)) / max(math.sqrt(float(np.dot(a, a)) * float(np.dot(b, b))), 1e-12)
