"""Poor microphones: each fault by itself, and what a drawn microphone can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsr.train.augment.microphone import (
    HIGHS_HZ,
    LOWS_HZ,
    MAX_CLIPPED_DB,
    MAX_LOST_SHARE,
    Microphone,
    random_microphone,
    record,
)
from avsr.types import SAMPLE_RATE, FloatArray


def tone(hz: float, num_samples: int = SAMPLE_RATE) -> FloatArray:
    return (0.1 * np.sin(2 * np.pi * hz * np.arange(num_samples) / SAMPLE_RATE)).astype(np.float32)


def level(sound: FloatArray) -> float:
    return float(np.sqrt(np.mean(sound[2000:-2000] ** 2)))


@given(st.integers(0, 5000), st.integers(0, 1 << 20))
def test_any_sound_is_recorded_repeatably_and_left_alone(num_samples: int, seed: int) -> None:
    sound = np.random.default_rng(seed).uniform(-0.3, 0.3, num_samples).astype(np.float32)
    before, microphone = sound.copy(), random_microphone(np.random.default_rng(seed))
    recorded, again = (record(sound, microphone, np.random.default_rng(seed)) for _ in range(2))
    assert recorded.shape == sound.shape
    assert recorded.dtype == np.float32
    assert np.isfinite(recorded).all()
    assert np.array_equal(recorded, again)
    assert np.array_equal(sound, before)


def test_a_perfect_microphone_changes_nothing_and_silence_stays() -> None:
    rng = np.random.default_rng(1)
    assert np.array_equal(record(tone(440), Microphone(), rng), tone(440))
    assert not record(np.zeros(1000, np.float32), Microphone(300, 3400, 20.0, 0.1), rng).any()


@pytest.mark.parametrize(("hz", "passes"), [(100, False), (300, None), (1000, True), (3400, None), (7000, False)])
def test_a_telephone_passes_its_band(hz: float, passes: bool | None) -> None:
    passed = level(record(tone(hz), Microphone(low_hz=300, high_hz=3400), np.random.default_rng(1))) / level(tone(hz))
    if passes is None:
        assert passed == pytest.approx(np.sqrt(0.5), rel=0.05), "3 dB at the edges"
    else:
        assert passed == pytest.approx(1.0, rel=0.02) if passes else passed < 0.1


def test_nothing_is_delayed() -> None:
    click = np.zeros(4000, np.float32)
    click[2000] = 0.5
    recorded = record(click, Microphone(low_hz=100, high_hz=4000), np.random.default_rng(1))
    assert np.argmax(np.abs(recorded)) == 2000


def test_peaks_are_cut_off_and_come_out_as_loud_as_full_scale_at_most() -> None:
    loudest = []
    for seed in range(50):
        clipped = record(tone(100), Microphone(clipped_db=12.0), np.random.default_rng(seed))
        top = float(np.max(np.abs(clipped)))
        assert np.mean(np.abs(clipped) > 0.999 * top) > 0.8, "a sine cut off at a quarter is flat most of the time"
        loudest.append(top)
    assert 0.1 / 4 <= min(loudest) < 0.1
    assert 0.5 < max(loudest) <= 1 + 1e-6


def test_lost_packets_are_silent_and_whole() -> None:
    sound = np.ones(SAMPLE_RATE, np.float32)
    recorded = record(sound, Microphone(lost_share=0.1, packet_s=0.02), np.random.default_rng(1))
    packets = recorded.reshape(-1, 320)
    assert set(np.unique(packets.mean(axis=1))) == {0.0, 1.0}
    assert np.mean(recorded == 0) == pytest.approx(0.1, abs=0.08)


def test_drawn_microphones_are_poor_in_every_way_and_in_none() -> None:
    drawn = [random_microphone(np.random.default_rng(seed)) for seed in range(300)]
    lows = [m.low_hz for m in drawn if m.low_hz is not None]
    highs = [m.high_hz for m in drawn if m.high_hz is not None]
    assert LOWS_HZ[0] <= min(lows) < max(lows) <= LOWS_HZ[1]
    assert HIGHS_HZ[0] <= min(highs) < max(highs) <= HIGHS_HZ[1]
    assert 0.8 * MAX_CLIPPED_DB < max(m.clipped_db for m in drawn) <= MAX_CLIPPED_DB
    assert 0.8 * MAX_LOST_SHARE < max(m.lost_share for m in drawn) <= MAX_LOST_SHARE
    assert len({(m.low_hz is None, m.high_hz is None, m.clipped_db == 0, m.lost_share == 0) for m in drawn}) == 16
