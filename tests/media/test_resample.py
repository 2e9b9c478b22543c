"""Laws of the streaming resampler."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avsr.errors import InputError
from avsr.media.resample import Resampler, resampler_for, to_mono

RATES_HZ = [4000, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000, 705600, 768000]


def _whole(resampler: Resampler, samples: np.ndarray) -> np.ndarray:
    head, state = resampler.step(samples, resampler.init_state())
    return np.concatenate([head, resampler.flush(state)])


def _tone(rate_hz: int, tone_hz: float, num_samples: int) -> np.ndarray:
    return np.sin(2 * np.pi * tone_hz * np.arange(num_samples) / rate_hz).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(
    rate_hz=st.sampled_from([*RATES_HZ, 12345]),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
    num_samples=st.integers(0, 3000),
)
@example(rate_hz=44100, cuts=list(range(3000)), num_samples=3000)
@example(rate_hz=48000, cuts=list(range(3000)), num_samples=3000)
def test_packet_size_never_changes_one_bit_of_the_output(rate_hz, cuts, num_samples):
    samples = np.random.default_rng(num_samples).standard_normal(num_samples).astype(np.float32)
    resampler = Resampler(rate_hz)
    state, parts = resampler.init_state(), []
    for part in np.split(samples, sorted(min(cut, num_samples) for cut in cuts)):
        output, state = resampler.step(part, state)
        parts.append(output)
    parts.append(resampler.flush(state))
    output = np.concatenate(parts)
    assert len(output) == ceil(num_samples * 16000 / rate_hz) and output.dtype == np.float32
    np.testing.assert_array_equal(output, _whole(resampler, samples))


@pytest.mark.parametrize("rate_hz", [*RATES_HZ, 12345])
def test_tone_keeps_its_time_and_level(rate_hz):
    output = _whole(Resampler(rate_hz), _tone(rate_hz, 1000.0, rate_hz // 2))
    expected = _tone(16000, 1000.0, 8000)
    inner = slice(400, -400)
    np.testing.assert_allclose(output[inner], expected[inner], atol=3e-4)


@pytest.mark.parametrize("rate_hz", [22050, 44100, 48000, 192000])
@pytest.mark.parametrize("tone_hz", [8100.0, 9500.0])
def test_what_16_khz_cannot_hold_is_removed_rather_than_folded_back(rate_hz, tone_hz):
    output = _whole(Resampler(rate_hz), _tone(rate_hz, tone_hz, rate_hz // 4))
    assert np.abs(output[400:-400]).max() < 10 ** (-70 / 20)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_click_stays_where_it_was(rate_hz):
    samples = np.zeros(rate_hz, dtype=np.float32)
    samples[rate_hz // 4] = 1.0
    assert int(np.argmax(np.abs(_whole(Resampler(rate_hz), samples)))) == 4000


def test_state_does_not_grow_with_the_stream_and_step_leaves_it_alone():
    resampler = Resampler(44100)
    state = resampler.init_state()
    sizes = []
    for _ in range(200):
        before = state.tail.copy()
        _, after = resampler.step(np.ones(1000, dtype=np.float32), state)
        np.testing.assert_array_equal(state.tail, before)
        state = after
        sizes.append(len(state.tail))
    assert max(sizes) < 2 * 89 + 441


def test_far_into_a_stream_the_output_is_as_at_its_start():
    resampler = Resampler(44100)
    samples = np.random.default_rng(0).standard_normal(4410).astype(np.float32)
    late = resampler.init_state()
    hours = 10_000 * 3600
    late = type(late)(late.tail, late.tail_start_sample + hours * 44100, hours * 16000)
    first, _ = resampler.step(samples, resampler.init_state())
    later, _ = resampler.step(samples, late)
    np.testing.assert_array_equal(first, later)


@pytest.mark.parametrize(
    "rate_hz", [0, -8000, 3999, 48001, 96001, 192001, 768100, 44100.5, float("nan"), None, "16000"]
)
def test_rates_out_of_range_are_refused(rate_hz):
    with pytest.raises(InputError, match="4000 to 768000"):
        Resampler(rate_hz)
    with pytest.raises(InputError, match="4000 to 768000"):
        resampler_for(rate_hz)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, np.float32, np.float64])
def test_every_sample_type_has_the_same_scale(dtype):
    wave = np.linspace(-0.9, 0.9, 101)
    if np.dtype(dtype).kind == "f":
        samples = wave.astype(dtype)
    else:
        info = np.iinfo(dtype)
        half = (int(info.max) - int(info.min) + 1) / 2
        samples = np.round(wave * half + (half if info.min == 0 else 0)).astype(dtype)
    mono = to_mono(samples)
    assert mono.dtype == np.float32
    np.testing.assert_array_equal(to_mono(samples[:, None]), mono)
    np.testing.assert_allclose(mono, wave, atol=0.005 if dtype == np.uint8 else 5e-5)


@pytest.mark.filterwarnings("error")
def test_channels_are_averaged_and_bad_samples_are_silence():
    stereo = np.array([[0.5, 0.25], [np.nan, 0.5], [np.inf, -np.inf], [1e25, 3.0], [0.5, -1e300]])
    np.testing.assert_array_equal(to_mono(stereo), np.array([0.375, 0.25, 0.0, 1.5, 0.25], dtype=np.float32))


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 1000)), np.zeros((5, 0)), np.zeros((2, 2, 2)), np.zeros(4, dtype=bool)]
)
def test_shapes_and_types_that_are_not_audio_are_refused(samples):
    with pytest.raises(InputError, match="give"):
        to_mono(samples)
