"""Small files, whole clips: every sample and picture comes back in its place, at any length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.errors import InputError
from avsr.train.packs.codec import decode_audio, decode_lips, encode_audio, encode_lips
from avsr.types import LIP_SIZE, SAMPLE_RATE, TICK_SAMPLES, ByteArray, FloatArray


def chirp(num_samples: int) -> FloatArray:
    """A tone that rises from 200 to 3000 Hz."""
    phase = np.cumsum(np.linspace(200, 3000, num_samples)) * 2 * np.pi / SAMPLE_RATE
    return (0.3 * np.sin(phase)).astype(np.float32)


def face(num_ticks: int) -> ByteArray:
    """A bright ellipse that opens and closes on a shaded ground."""
    y, x = np.mgrid[:LIP_SIZE, :LIP_SIZE] - LIP_SIZE / 2
    heights = 6 + 5 * np.sin(np.arange(num_ticks))[:, None, None]
    return (80 + y / 2 + 90 * ((x / 30) ** 2 + (y / heights) ** 2 < 1)).astype(np.uint8)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 60))
def test_any_number_of_ticks_comes_back(num_ticks: int) -> None:
    audio, lips = chirp(num_ticks * TICK_SAMPLES), face(num_ticks)
    assert decode_audio(encode_audio(audio), len(audio)).shape == audio.shape
    back = decode_lips(encode_lips(lips), num_ticks)
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - lips).mean() < 2


def test_the_sound_is_not_shifted() -> None:
    audio = chirp(2 * SAMPLE_RATE)
    back = decode_audio(encode_audio(audio), len(audio))
    spectrum = np.conj(np.fft.rfft(audio, 2 * len(audio))) * np.fft.rfft(back, 2 * len(audio))
    assert np.argmax(np.fft.irfft(spectrum)) == 0
    assert np.mean((back - audio) ** 2) < 0.01 * np.mean(audio**2)


def test_every_picture_is_at_its_tick() -> None:
    lips = np.zeros((40, LIP_SIZE, LIP_SIZE), np.uint8) + (np.arange(40, dtype=np.uint8) * 6)[:, None, None]
    back = decode_lips(encode_lips(lips), 40)
    assert np.abs(back.mean((1, 2)) - np.arange(40) * 6).max() < 2


def test_the_same_clip_becomes_the_same_bytes() -> None:
    assert encode_audio(chirp(640)) == encode_audio(chirp(640))
    rng = np.random.default_rng(1)
    lips = np.clip(face(75) + rng.normal(scale=6, size=(75, 1, 1)) + rng.normal(scale=2, size=(75, 96, 96)), 0, 255)
    first = encode_lips(lips.astype(np.uint8))
    for size in (10_000, 1_000_000, 5_000_000):
        rng.integers(0, 256, size)  # other rubbish in memory
        assert encode_lips(lips.astype(np.uint8)) == first


def test_a_3_s_clip_is_small() -> None:
    rng = np.random.default_rng(1)
    speech_like = chirp(48_000) * (rng.random(75) > 0.3).repeat(TICK_SAMPLES).astype(np.float32)
    assert len(encode_audio(speech_like)) + len(encode_lips(face(75))) < 30_000


def test_loud_sound_is_clipped_not_wrapped() -> None:
    back = decode_audio(encode_audio(4 * chirp(SAMPLE_RATE)), SAMPLE_RATE)
    assert np.dot(back, chirp(SAMPLE_RATE)) > 0
    assert np.abs(back).max() < 1.5


def test_an_absent_sense_takes_no_bytes() -> None:
    assert encode_audio(np.zeros(0, np.float32)) == encode_lips(np.zeros((0, LIP_SIZE, LIP_SIZE), np.uint8)) == b""
    assert not decode_audio(b"", 640).any()
    assert not decode_lips(b"", 3).any()
    assert decode_lips(b"", 3).shape == (3, LIP_SIZE, LIP_SIZE)


def test_other_bytes_or_another_length_are_refused() -> None:
    for num_ticks in (4, 6):
        with pytest.raises(InputError, match="pictures"):
            decode_lips(encode_lips(face(5)), num_ticks)
    with pytest.raises(InputError, match="lips"):
        decode_lips(b"no video", 5)
    with pytest.raises(InputError, match="sound"):
        decode_audio(b"no sound", 640)
    with pytest.raises(InputError, match="sound"):
        decode_audio(encode_audio(chirp(640)), 641)
