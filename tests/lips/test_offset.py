"""Pictures that come late are found out by the lips, and moved."""

from __future__ import annotations

import numpy as np
import pytest

from avsr.lips import OffsetMeter
from avsr.types import TICK_MS, FloatArray


def measured(late_ticks: int, *, num_ticks: int = 800, noise: float = 0.03, seed: int = 1) -> OffsetMeter:
    """Hear and see the same syllables, the lips late."""
    meter = OffsetMeter()
    opening, level_db = speech(num_ticks + 40, noise, seed)
    opening = np.roll(opening, late_ticks)
    for start in range(20, 20 + num_ticks, 8):
        meter = meter.seen(opening[start : start + 8].tolist(), level_db[start : start + 8].tolist())
    return meter


def speech(num_ticks: int, noise: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """Syllables as a mouth and a voice make them, tick by tick."""
    rng = np.random.default_rng(seed)
    syllables = np.convolve(rng.random(num_ticks) < 0.2, np.hanning(7), "same")
    opening = 0.05 + 0.3 * syllables + rng.normal(scale=noise, size=num_ticks)
    level_db = -50 + 25 * syllables + rng.normal(scale=0.3, size=num_ticks)
    return opening.astype(np.float32), level_db.astype(np.float32)


@pytest.mark.parametrize("late_ticks", [-7, 4, 10])
def test_an_offset_is_measured(late_ticks: int) -> None:
    assert measured(late_ticks).late_ms == 40 * late_ticks


@pytest.mark.parametrize("late_ticks", [0, 1, -2])
def test_what_is_right_is_left_alone(late_ticks: int) -> None:
    assert measured(late_ticks).late_ms is None


def test_nothing_is_concluded_from_little_or_from_noise() -> None:
    assert measured(8, num_ticks=160).late_ms is None
    assert measured(8, noise=3.0).late_ms is None


def test_a_while_without_a_face_leaves_no_trace() -> None:
    half = [None] * 50, [-30.0] * 50
    assert OffsetMeter().seen(*half).seen(*half) == OffsetMeter()


def test_what_is_remembered_does_not_grow() -> None:
    meter = measured(0, num_ticks=2400)
    assert len(meter.openings) < 110
    assert meter.num_windows >= 20


@pytest.mark.parametrize("drift_ppm", [400, -400])
def test_a_drift_that_nobody_else_corrects_is_followed(drift_ppm: int) -> None:
    """A client whose two clocks differ by that much would be 1.4 s off after an hour."""
    num_ticks, chunk = 30_000, 8
    opening, level_db = speech(num_ticks, 0.03, 4)
    meter, corrected_ms, worst_ms = OffsetMeter(), 0.0, 0.0
    for start in range(100, num_ticks - 100, chunk):
        late_ms = drift_ppm * 1e-6 * start * TICK_MS - corrected_ms
        worst_ms = max(worst_ms, abs(late_ms))
        first = start - round(late_ms / TICK_MS)
        meter = meter.seen(opening[first : first + chunk].tolist(), level_db[start : start + chunk].tolist())
        if meter.late_ms is not None:
            corrected_ms += meter.late_ms
            meter = OffsetMeter()
    assert abs(corrected_ms) > 300
    assert worst_ms < 160
