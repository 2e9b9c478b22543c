"""Laws of the noise mixer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.errors import InputError
from avsr.media.noise import active_rms, babble, coloured_noise, mix_at_snr
from avsr.types import SAMPLE_RATE


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _speech(num_samples: int, seed: int = 0, scale: float = 0.02) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(num_samples) * scale).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(
    num_speech=st.integers(1, 5000),
    num_noise=st.integers(1, 9000),
    snr_db=st.floats(-20, 40),
    seed=st.integers(0, 99),
)
def test_mixture_has_the_ratio_asked_for_and_stays_in_range(num_speech, num_noise, snr_db, seed):
    speech, noise = _speech(num_speech, seed), _speech(num_noise, seed + 1, 0.3)
    mixed = mix_at_snr(speech, noise, snr_db)
    used = np.resize(noise, num_speech)
    gain = active_rms(speech) / _rms(used) * 10 ** (-snr_db / 20)
    expected = speech + gain * used
    expected /= max(1.0, np.abs(expected).max())
    assert mixed.dtype == np.float32 and mixed.shape == speech.shape
    assert np.abs(mixed).max() <= 1.0
    np.testing.assert_allclose(mixed, expected, atol=1e-5)


def test_speech_is_not_rescaled_while_the_mixture_fits():
    speech, noise = _speech(16000), _speech(16000, 1)
    added = mix_at_snr(speech, noise, 10.0) - speech
    assert np.corrcoef(added, noise)[0, 1] > 0.9999
    assert 20 * np.log10(active_rms(speech) / _rms(added)) == pytest.approx(10.0, abs=0.01)


def test_pauses_do_not_change_the_noise_level():
    speech = _speech(16000)
    padded = np.concatenate([np.zeros(32000, np.float32), speech, np.zeros(16000, np.float32)])
    assert active_rms(padded) == pytest.approx(active_rms(speech), rel=1e-3)


@pytest.mark.parametrize(
    "noise", [np.zeros(100, np.float32), np.zeros(0, np.float32)], ids=["silent noise", "empty noise"]
)
def test_silent_noise_leaves_a_copy_of_the_speech(noise):
    speech = _speech(1000)
    mixed = mix_at_snr(speech, noise, 0.0)
    np.testing.assert_array_equal(mixed, speech)
    assert not np.shares_memory(mixed, speech)


def test_silent_speech_stays_silent():
    assert not mix_at_snr(np.zeros(1000, np.float32), _speech(1000), 0.0).any()
    assert mix_at_snr(np.zeros(0, np.float32), _speech(1000), 0.0).size == 0


def test_babble_is_repeatable_finite_and_of_the_length_asked_for():
    voices = [_speech(3000 + 500 * index, index, scale=0.01 * (index + 1)) for index in range(10)]
    first = babble(voices, 20000, np.random.default_rng(3))
    again = babble(voices, 20000, np.random.default_rng(3))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32 and first.shape == (20000,)
    assert 0.05 * 4**0.5 * 0.8 < _rms(first) < 0.05 * 8**0.5 * 1.2


def test_babble_works_with_few_or_silent_voices():
    rng = np.random.default_rng(0)
    assert babble([_speech(1000)], 2000, rng).any()
    assert not babble([np.zeros(10, np.float32), np.zeros(0, np.float32)], 500, rng).any()
    assert babble([_speech(1000)], 0, rng).size == 0


def test_bad_arguments_are_refused_with_a_reason():
    with pytest.raises(InputError, match="one channel"):
        mix_at_snr(np.zeros((5, 2), np.float32), _speech(5), 0.0)
    with pytest.raises(InputError, match="finite"):
        mix_at_snr(_speech(5), _speech(5), float("nan"))
    with pytest.raises(InputError, match="at least one utterance"):
        babble([], 100, np.random.default_rng(0))
    with pytest.raises(InputError, match="-1 samples"):
        babble([_speech(5)], -1, np.random.default_rng(0))


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_coloured_noise_falls_as_it_says_and_is_as_loud(slope: float) -> None:
    noise = coloured_noise(1 << 16, slope, np.random.default_rng(1))
    assert np.mean(noise**2) == pytest.approx(0.01, rel=1e-3)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves_hz = 62.5 * 2.0 ** np.arange(7)
    bins = (octaves_hz * len(noise) / 16_000).astype(int)
    means = [np.mean(power[low:high]) for low, high in pairwise(bins)]
    fitted = np.polyfit(np.log(octaves_hz[:-1]), np.log(means), 1)[0]
    assert fitted == pytest.approx(-slope, abs=0.12)
    assert coloured_noise(0, slope, np.random.default_rng(1)).shape == (0,)


@pytest.mark.parametrize("seconds", [1, 60])
def test_what_nobody_hears_is_no_more_of_long_noise_than_of_short(seconds: int) -> None:
    noise = coloured_noise(seconds * SAMPLE_RATE, 1.0, np.random.default_rng(1))
    power = np.abs(np.fft.rfft(noise)) ** 2
    assert power[: 20 * seconds].sum() / power.sum() == pytest.approx(1 / (1 + np.log(8_000 / 20)), abs=0.06)
