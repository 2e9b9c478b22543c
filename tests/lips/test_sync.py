"""Lips that come late or early are found out."""

from __future__ import annotations

import numpy as np
import pytest

from avsr.lips.sync import LEAST_TICKS, MAX_LAG_TICKS, best_lag, correlate, is_outlier
from avsr.types import FloatArray


def speech(num_ticks: int, seed: int, late_ticks: int) -> tuple[list[float | None], FloatArray]:
    """Mouth opening and loudness of the same syllables, and noise on both."""
    rng = np.random.default_rng(seed)
    syllables = np.convolve(rng.random(num_ticks + 40) < 0.2, np.hanning(7), "same")
    opening = 0.05 + 0.3 * np.roll(syllables, late_ticks) + rng.normal(scale=0.02, size=num_ticks + 40)
    loudness = -50 + 25 * syllables + rng.normal(scale=1, size=num_ticks + 40)
    return opening[20:-20].tolist(), loudness[20:-20].astype(np.float32)


@pytest.mark.parametrize("late_ticks", [-11, -5, -1, 0, 2, 7, 12])
def test_a_shift_is_measured(late_ticks: int) -> None:
    curve = correlate(*speech(75, 1, late_ticks))
    assert curve is not None
    assert len(curve) == 2 * MAX_LAG_TICKS + 1
    assert best_lag(curve) == late_ticks
    assert is_outlier(curve, 0) == (abs(late_ticks) > 2)
    assert not is_outlier(curve, late_ticks)


def test_a_few_pictures_without_a_face_do_no_harm() -> None:
    openings, loudness = speech(75, 2, 4)
    openings[10:13] = [None] * 3
    curve = correlate(openings, loudness)
    assert curve is not None
    assert best_lag(curve) == 4


def test_nothing_is_said_where_nothing_can_be_known() -> None:
    openings, loudness = speech(75, 3, 0)
    assert correlate([None] * 10 + openings[10:], loudness) is None
    assert correlate(openings[: LEAST_TICKS - 1], loudness[: LEAST_TICKS - 1]) is None
    assert correlate([0.1] * 75, loudness) is None
    assert correlate(openings, np.full(75, -90, np.float32)) is None
    assert correlate([], np.zeros(0, np.float32)) is None
