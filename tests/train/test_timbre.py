"""Throats and microphones: the formants move by as much as asked, the bands get their gains, and nothing else moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.train.augment.examples import AugmentConfig, _change_sound
from avsr.train.augment.noise import NoiseSource
from avsr.train.augment.timbre import LOWEST_HZ, NUM_BANDS, equalise, random_band_gains, shift_formants
from avsr.types import SAMPLE_RATE, FloatArray

PITCH_HZ, FORMANT_HZ = 125.0, 1_500.0
MIDDLE = slice(SAMPLE_RATE // 4, -SAMPLE_RATE // 4)
STILL = {"gain_db": 0.0, "reverb_share": 0.0, "noise_share": 0.0}
SILENCE = NoiseSource([], [])

semitones = st.floats(-12, 12)
sounds = st.tuples(st.integers(0, 3_000), st.integers(0, 1 << 30), st.sampled_from([0.0, 1e-30, 1e-4, 0.3, 1.0]))


def vowel(pitch_hz: float = PITCH_HZ, formant_hz: float = FORMANT_HZ) -> FloatArray:
    """Two seconds of harmonics, strongest at one formant."""
    times_s = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    harmonics_hz = np.arange(pitch_hz, 7_500, pitch_hz)
    strengths = 0.02 + np.exp(-(((harmonics_hz - formant_hz) / 350) ** 2))
    waves = strengths[:, None] * np.sin(2 * np.pi * harmonics_hz[:, None] * times_s + harmonics_hz[:, None])
    return (0.02 * waves.sum(axis=0)).astype(np.float32)


def pitch_of(audio: FloatArray) -> float:
    """The pitch in Hz: where the voice is most like itself, from 60 to 300 Hz."""
    power = np.abs(np.fft.rfft(audio[MIDDLE], 4 * SAMPLE_RATE)) ** 2
    likeness = np.fft.irfft(power, 32 * SAMPLE_RATE)  # 8 points a sample
    first, last = (round(8 * SAMPLE_RATE / hz) for hz in (300, 60))
    return float(8 * SAMPLE_RATE / (first + np.argmax(likeness[first:last])))


def formant_of(audio: FloatArray) -> float:
    """The middle of the one formant, in Hz: the centroid of what stands out of the spectrum."""
    power = np.abs(np.fft.rfft(audio[MIDDLE] * np.hanning(len(audio[MIDDLE])))) ** 2
    frequencies_hz = np.fft.rfftfreq(len(audio[MIDDLE]), 1 / SAMPLE_RATE)
    strong = power > power.max() / 20
    return float(np.average(frequencies_hz[strong], weights=power[strong]))


def noise_of(num_samples: int, seed: int, level: float) -> FloatArray:
    return (level * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


@pytest.mark.parametrize("by", [-5.0, -2.0, 2.0, 5.0])
def test_formants_move_by_as_much_as_asked_and_the_pitch_stays(by: float) -> None:
    moved = shift_formants(vowel(), by)
    assert 12 * np.log2(formant_of(moved) / formant_of(vowel())) == pytest.approx(by, abs=0.6)
    assert pitch_of(moved) == pytest.approx(PITCH_HZ, rel=0.005)
    assert moved.dtype == np.float32


def test_no_semitones_leave_the_sound_as_it_is() -> None:
    audio = vowel()
    assert np.array_equal(shift_formants(audio, 0.0), audio)
    # Nor does cutting into frames and joining them change anything of itself.
    assert np.allclose(shift_formants(audio, 1e-9), audio, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(sounds, semitones)
def test_any_sound_keeps_its_length_and_never_becomes_nan(sound: tuple[int, int, float], by: float) -> None:
    audio = noise_of(*sound)
    moved = shift_formants(audio, by)
    assert moved.shape == audio.shape
    assert moved.dtype == np.float32
    assert np.isfinite(moved).all()


def test_formants_move_alike_however_loud_the_voice_is() -> None:
    loud, quiet = shift_formants(vowel(), 3.0), shift_formants(0.1 * vowel(), 3.0)
    assert np.allclose(10 * quiet, loud, atol=0.02 * np.abs(loud).max())


def test_silence_stays_silent() -> None:
    silence = np.zeros(2_000, np.float32)
    assert not shift_formants(silence, 4.0).any()
    assert not equalise(silence, np.full(NUM_BANDS, 12, np.float32)).any()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=8))
def test_each_band_gets_the_gain_that_is_asked(gains_db: list[float]) -> None:
    audio = noise_of(SAMPLE_RATE, 5, 0.1)
    before, after = (np.abs(np.fft.rfft(x.astype(np.float64))) for x in (audio, equalise(audio, np.array(gains_db))))
    for band_hz, gain_db in zip(np.geomspace(LOWEST_HZ, SAMPLE_RATE / 2, len(gains_db)), gains_db, strict=True):
        index = round(band_hz)  # a bin is 1 Hz wide
        assert 20 * np.log10(after[index] / before[index]) == pytest.approx(gain_db, abs=0.3)
    assert after[50] / before[50] == pytest.approx(10 ** (gains_db[0] / 20), rel=0.01)


def test_gains_of_nothing_leave_the_sound_as_it_is() -> None:
    assert np.allclose(equalise(vowel(), np.zeros(NUM_BANDS, np.float32)), vowel(), atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(sounds, st.floats(0, 30))
def test_any_microphone_keeps_the_length_and_never_makes_nan(sound: tuple[int, int, float], most_db: float) -> None:
    audio, gains_db = noise_of(*sound), random_band_gains(np.random.default_rng(sound[1]), most_db)
    assert gains_db.shape == (NUM_BANDS,)
    assert np.abs(gains_db).max() <= np.float32(most_db)
    heard = equalise(audio, gains_db)
    assert heard.shape == audio.shape
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()


def changed(seed: int, **settings: float) -> FloatArray:
    config = AugmentConfig.model_validate(STILL | settings)
    return _change_sound(vowel(), config, SILENCE, np.random.default_rng(seed))[0]


@pytest.mark.parametrize("seed", [2, 3, 5])
def test_pitch_moves_without_the_formants_where_these_have_a_range_of_their_own(seed: int) -> None:
    both, pitch_alone = changed(seed, pitch_semitones=4.0), changed(seed, pitch_semitones=4.0, formant_semitones=0.0)
    by = 12 * np.log2(pitch_of(both) / PITCH_HZ)
    assert abs(by) > 0.3
    assert pitch_of(pitch_alone) == pytest.approx(pitch_of(both), rel=0.01)
    assert 12 * np.log2(formant_of(both) / FORMANT_HZ) == pytest.approx(by, abs=0.6)
    assert 12 * np.log2(formant_of(pitch_alone) / FORMANT_HZ) == pytest.approx(0, abs=0.6)


@pytest.mark.parametrize("seed", [2, 3, 5])
def test_formants_move_without_the_pitch(seed: int) -> None:
    heard = changed(seed, formant_semitones=4.0)
    assert pitch_of(heard) == pytest.approx(PITCH_HZ, rel=0.005)
    assert 0.2 < abs(12 * np.log2(formant_of(heard) / FORMANT_HZ)) < 4.6


def test_without_the_new_settings_the_random_draws_stay_the_same() -> None:
    rng = np.random.default_rng(4)
    _change_sound(vowel(), AugmentConfig.model_validate(STILL), SILENCE, rng)
    expected = np.random.default_rng(4)
    expected.random(), expected.uniform(-1, 1), expected.random()  # room, gain, noise
    assert rng.random() == expected.random()
