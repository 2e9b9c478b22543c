"""What a poor microphone, and the line behind it, make of sound: f32 (n,) in, the same out.

Headsets and telephones pass a part of the frequencies only, a gain set too high cuts off the peaks, and on a bad line
packets are lost. Noise goes through all of it as speech does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avsr.types import SAMPLE_RATE, FloatArray

LOWS_HZ, HIGHS_HZ = (50.0, 450.0), (2800.0, 7000.0)
"""The lowest and the highest frequency that pass; a telephone's are 300 and 3400."""
ORDER = 4
"""Butterworth: 24 dB an octave."""
MAX_CLIPPED_DB = 24.0
MAX_LOST_SHARE = 0.15
PACKETS_S = (0.01, 0.06)


@dataclass(frozen=True, slots=True)
class Microphone:
    """The band that passes (None: no limit), how far peaks rise above where they are cut off, and the share lost."""

    low_hz: float | None = None
    high_hz: float | None = None
    clipped_db: float = 0.0
    lost_share: float = 0.0
    packet_s: float = 0.02


def random_microphone(rng: np.random.Generator) -> Microphone:
    """Draw a microphone that is poor in some of the four ways, mostly in two."""
    low, high, clips, loses = rng.random(4) < 0.5
    return Microphone(
        low_hz=rng.uniform(*LOWS_HZ) if low else None,
        high_hz=rng.uniform(*HIGHS_HZ) if high else None,
        clipped_db=rng.uniform(0, MAX_CLIPPED_DB) if clips else 0.0,
        lost_share=rng.uniform(0, MAX_LOST_SHARE) if loses else 0.0,
        packet_s=rng.uniform(*PACKETS_S),
    )


def record(audio: FloatArray, microphone: Microphone, rng: np.random.Generator) -> FloatArray:
    """Record with ``microphone``, without delay; ``rng`` draws the gain after clipping, and which packets are lost.

    That gain is from 1 to what brings the clipped peaks to full scale.
    """
    if not len(audio):
        return audio
    audio = _passed(audio, microphone.low_hz, microphone.high_hz)
    peak = float(np.max(np.abs(audio)))
    if microphone.clipped_db and peak:
        limit = peak * 10 ** (-microphone.clipped_db / 20)
        audio = np.clip(audio, -limit, limit) * np.float32(limit ** -rng.uniform(0, 1))
    packet_samples = max(1, round(microphone.packet_s * SAMPLE_RATE))
    is_lost = rng.random(-(-len(audio) // packet_samples)) < microphone.lost_share
    recorded: FloatArray = np.where(np.repeat(is_lost, packet_samples)[: len(audio)], np.float32(0), audio)
    return recorded


def _passed(audio: FloatArray, low_hz: float | None, high_hz: float | None) -> FloatArray:
    if low_hz is None and high_hz is None:
        return audio
    size = 1 << (len(audio) - 1).bit_length()  # a power of two is many times faster than a prime
    frequencies_hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    gains = np.ones_like(frequencies_hz)
    if low_hz is not None:
        gains /= np.sqrt(1 + (low_hz / np.maximum(frequencies_hz, 1e-3)) ** (2 * ORDER))
    if high_hz is not None:
        gains /= np.sqrt(1 + (frequencies_hz / high_hz) ** (2 * ORDER))
    passed: FloatArray = np.fft.irfft(np.fft.rfft(audio, size) * gains, size)[: len(audio)].astype(np.float32)
    return passed
