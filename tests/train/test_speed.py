"""Speed and pitch: both senses and the words stay together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_clips import WORDS, make_clip

from avsr.train.augment.speed import change_speed, resample_to, shift_pitch, stretch
from avsr.types import LIP_SIZE, SAMPLE_RATE, TICK_S, TICK_SAMPLES, FloatArray


def tone(frequency_hz: float, num_samples: int = 2 * SAMPLE_RATE) -> FloatArray:
    return (0.3 * np.sin(2 * np.pi * frequency_hz * np.arange(num_samples) / SAMPLE_RATE)).astype(np.float32)


def strongest_hz(audio: FloatArray) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    return float(np.argmax(spectrum)) * SAMPLE_RATE / len(audio)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.8, 1.25), st.integers(0, 5))
def test_words_move_with_the_sound_and_the_lips(factor: float, index: int) -> None:
    clip, data = make_clip(["bin", "lay", "red"], index)
    changed, words = change_speed(data, clip.words, factor)
    assert changed.num_ticks == pytest.approx(data.num_ticks / factor, abs=0.51)
    assert changed.audio.shape == (changed.num_ticks * TICK_SAMPLES,)
    assert changed.lips.shape == (changed.num_ticks, LIP_SIZE, LIP_SIZE)
    assert changed.heard.shape == changed.visible.shape == (changed.num_ticks,)
    loudness = np.sqrt(np.mean(changed.audio.reshape(-1, TICK_SAMPLES) ** 2, axis=1))
    for word in words:
        inside = range(int(np.ceil(word.start_s / TICK_S)) + 1, int(word.end_s / TICK_S) - 1)
        assert all(changed.lips[tick, 0, 0] == 50 * WORDS.index(word.text) for tick in inside)
        assert loudness[inside.start : inside.stop].min() > 0.1
    assert loudness[: int(words[0].start_s / TICK_S) - 1].max() < 0.05


def test_a_voice_goes_up_as_it_speeds_up() -> None:
    clip, data = make_clip(["bin"] * 6, 0)
    for factor in (0.9, 1.1):
        changed, words = change_speed(data, clip.words, factor)
        first, last = round(words[0].start_s * SAMPLE_RATE), round(words[-1].end_s * SAMPLE_RATE)
        achieved = data.num_ticks / changed.num_ticks
        assert strongest_hz(changed.audio[first:last]) == pytest.approx(300 * achieved, rel=0.01)


def test_the_same_speed_changes_nothing() -> None:
    clip, data = make_clip(["blue"], 2)
    changed, words = change_speed(data, clip.words, 1.0)
    assert words == clip.words
    assert np.array_equal(changed.audio, data.audio)
    assert np.array_equal(changed.lips, data.lips)


@pytest.mark.parametrize("semitones", [-4.0, -1.0, 0.0, 2.5, 4.0])
def test_pitch_is_shifted_by_as_much_as_asked(semitones: float) -> None:
    shifted = shift_pitch(tone(500), semitones)
    assert shifted.dtype == np.float32
    assert shifted.shape == (2 * SAMPLE_RATE,)
    assert strongest_hz(shifted) == pytest.approx(500 * 2 ** (semitones / 12), rel=0.005)
    assert np.sqrt(np.mean(shifted**2)) == pytest.approx(np.sqrt(np.mean(tone(500) ** 2)), rel=0.1)


@pytest.mark.parametrize("semitones", [-4.0, 4.0])
def test_what_is_said_stays_where_it_is(semitones: float) -> None:
    audio = np.zeros(2 * SAMPLE_RATE, np.float32)
    audio[8_000:12_000] = tone(400, 4_000)
    audio[20_000:26_000] = tone(700, 6_000)
    loud = np.flatnonzero(np.abs(shift_pitch(audio, semitones)) > 0.1)
    edges = [loud[0], loud[loud < 16_000][-1], loud[loud > 16_000][0], loud[-1]]
    assert edges == pytest.approx([8_000, 12_000, 20_000, 26_000], abs=0.02 * SAMPLE_RATE)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 3_000), st.integers(0, 4_000))
def test_a_stretched_sound_is_as_long_as_asked(num_samples: int, wanted: int) -> None:
    assert stretch(tone(300, num_samples), wanted).shape == (wanted,)


def test_short_sounds_are_shifted_too() -> None:
    for num_samples in (0, 1, 300, 640):
        assert shift_pitch(tone(500, num_samples), 2.0).shape == (num_samples,)


def test_resampling_keeps_what_both_rates_can_hold() -> None:
    audio = tone(440, 16_000)
    assert np.allclose(resample_to(resample_to(audio, 17_600), 16_000), audio, atol=1e-5)
    assert np.allclose(
        resample_to(audio, 17_600), 0.3 * np.sin(2 * np.pi * 440 * np.arange(17_600) / 17_600), atol=1e-4
    )
    assert resample_to(np.zeros(0, np.float32), 0).shape == (0,)
