"""Rooms: they decay as they say, are as near as they say, and move no word."""

from __future__ import annotations

import numpy as np
import pytest

from avsr.train.augment.reverberation import LONGEST_RT60_S, random_room, reverberate, room_response
from avsr.types import SAMPLE_RATE


@pytest.mark.parametrize("rt60_s", [0.2, 0.5, 0.8])
def test_the_tail_falls_by_60_db_in_the_time_stated(rt60_s: float) -> None:
    tail = room_response(rt60_s, 0.0, np.random.default_rng(1))[1:].astype(np.float64)
    # Schroeder's backward integration, fitted from -5 to -25 dB.
    energy_db = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2) + 1e-12)
    fitted = np.flatnonzero((energy_db < -5) & (energy_db > -25))
    slope_db_per_s = np.polyfit(fitted / SAMPLE_RATE, energy_db[fitted], 1)[0]
    assert -60 / slope_db_per_s == pytest.approx(rt60_s, rel=0.1)


@pytest.mark.parametrize("drr_db", [-3.0, 0.0, 12.0])
def test_the_direct_sound_is_as_strong_as_stated(drr_db: float) -> None:
    response = room_response(0.4, drr_db, np.random.default_rng(2)).astype(np.float64)
    assert response[0] == 1
    assert -10 * np.log10(np.sum(response[1:] ** 2)) == pytest.approx(drr_db, abs=1e-3)


def test_a_click_stays_where_it_is_and_trails_off() -> None:
    audio = np.zeros(SAMPLE_RATE, np.float32)
    audio[5_000] = 0.5
    wet = reverberate(audio, room_response(0.3, 6.0, np.random.default_rng(3)))
    assert wet.shape == audio.shape
    assert wet.dtype == np.float32
    assert np.abs(wet[:5_000]).max() < 1e-6
    assert wet[5_000] == pytest.approx(0.5, abs=1e-5)
    assert np.abs(wet[5_100:6_000]).max() > 0


def test_loud_rooms_are_turned_down_as_a_whole() -> None:
    audio = np.random.default_rng(1).uniform(-1, 1, 8_000).astype(np.float32)
    response = room_response(0.8, -3.0, np.random.default_rng(1))
    loud, soft = reverberate(audio, response), reverberate(audio / 100, response)
    assert np.abs(loud).max() == pytest.approx(1.0)
    assert np.corrcoef(loud, soft)[0, 1] == pytest.approx(1.0, abs=1e-6)


def test_rooms_differ_and_end() -> None:
    rng = np.random.default_rng(1)
    rooms = [random_room(rng) for _ in range(10)]
    assert len({len(room) for room in rooms}) > 5
    assert max(map(len, rooms)) <= LONGEST_RT60_S * SAMPLE_RATE
    assert reverberate(np.zeros(0, np.float32), rooms[0]).shape == (0,)
