"""Rooms: speech as it sounds from across one.

A room is its direct sound and a tail of noise that decays exponentially, which is what late reverberation is like
(Moorer 1979, "About this reverberation business"); simulated walls would add early echoes at many times the cost.
"""

from __future__ import annotations

import numpy as np

from avsr.types import SAMPLE_RATE, FloatArray

SHORTEST_RT60_S, LONGEST_RT60_S = 0.15, 0.8
"""From a furnished study to a lecture hall."""
FARTHEST_DRR_DB, NEAREST_DRR_DB = -3.0, 15.0
"""Direct-to-reverberant ratio: from a few metres to arm's length."""
TAIL_DELAY_S = 0.002
"""The first reflection takes a way of 0.7 m more."""


def random_room(rng: np.random.Generator) -> FloatArray:
    """Draw a room; return its response f32 (n,)."""
    rt60_s = rng.uniform(SHORTEST_RT60_S, LONGEST_RT60_S)
    return room_response(rt60_s, rng.uniform(FARTHEST_DRR_DB, NEAREST_DRR_DB), rng)


def room_response(rt60_s: float, drr_db: float, rng: np.random.Generator) -> FloatArray:
    """Return f32 (n,): a 1 at sample 0, and a tail that falls by 60 dB in ``rt60_s``.

    ``drr_db`` is the energy of the 1 over that of the tail.
    """
    times_s = np.arange(round(rt60_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(times_s)) * np.power(10.0, -3 * times_s / rt60_s) * (times_s >= TAIL_DELAY_S)
    gain = 10 ** (-drr_db / 20) / max(float(np.sqrt(np.sum(tail**2))), 1e-12)
    response: FloatArray = np.concatenate([[1.0], gain * tail[1:]]).astype(np.float32)
    return response


def reverberate(audio: FloatArray, response: FloatArray) -> FloatArray:
    """Return ``audio`` f32 (n,) as heard in the room, f32 (n,); words stay where they are, and the last tail is cut.

    What would leave [-1, 1] is turned down as a whole.
    """
    size = 1 << (len(audio) + len(response) - 1).bit_length()  # a power of two is many times faster than a prime
    wet = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(response, size), size)[: len(audio)].astype(np.float32)
    peak = float(np.max(np.abs(wet), initial=0.0))
    turned_down: FloatArray = wet / np.float32(max(peak, 1.0))
    return turned_down
