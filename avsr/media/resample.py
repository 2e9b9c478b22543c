"""Audio of any integer rate, sample type and channel count to f32 mono at 16 kHz, or at another rate.

A windowed-sinc polyphase filter (Kaiser window; Smith, "Digital Audio Resampling Home Page", 2002). Its group delay is
compensated: output sample n is the input at n / ``to_hz`` s. Outputs are always computed in whole blocks, counted from
the start of the stream, with the same operations on the same numbers, so that the result is bit for bit the same
however the input was cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from avsr.errors import InputError
from avsr.types import SAMPLE_RATE, FloatArray

MIN_RATE_HZ = 4_000
MAX_RATE_HZ = 768_000
MAX_ODD_RATE_HZ = 48_000
"""Higher rates must be multiples of 100 Hz, as all real ones are: others need a filter of up to a gigabyte."""
MAX_CHANNELS = 64
WILDEST = 1e6
"""Float samples beyond this many times full scale are damage, and become zero."""
BLOCK_SAMPLES = 160
"""Outputs computed at once: 10 ms at 16 kHz."""
ZERO_CROSSINGS = 32
"""Half length of the filter, in samples of the slower of the two rates (2 ms at 16 kHz)."""
CUTOFF = 0.92
"""Middle of the transition band as a share of the lower Nyquist frequency; its upper edge is that frequency."""
KAISER_BETA = 7.86
"""80 dB of stop band."""


@dataclass(frozen=True, slots=True)
class ResamplerState:
    """The input that later outputs still need, bounded by the filter's length and one block.

    ``tail`` f32 (m,) begins at input sample ``tail_start_sample``; ``next_sample`` is the output that comes next.
    """

    tail: FloatArray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    tail_start_sample: int = 0
    next_sample: int = 0


class Resampler:
    """The stage from f32 mono at ``rate_hz`` to f32 mono at ``to_hz``; input at that rate is passed on untouched.

    n input samples give ceil(n * to_hz / rate_hz) outputs in all: every output whose time lies inside the input.

    Raises:
        InputError: a rate is not an integer from 4000 to 768000 Hz, or above 48000 Hz not a multiple of 100 Hz.
    """

    def __init__(self, rate_hz: int, to_hz: int = SAMPLE_RATE) -> None:
        self.rate_hz, self.to_hz = _checked_rate(rate_hz), _checked_rate(to_hz)
        divisor = gcd(self.rate_hz, self.to_hz)
        self._up, self._down = self.to_hz // divisor, self.rate_hz // divisor
        self._filters = _polyphase_filters(self._up, self._down)
        self._half = self._filters.shape[1] // 2

    def init_state(self) -> ResamplerState:
        """Return the state of a stream that has not begun; the input before it is silence."""
        if self.rate_hz == self.to_hz:
            return ResamplerState()
        return ResamplerState(np.zeros(self._half, dtype=np.float32), -self._half)

    def step(self, samples: FloatArray, state: ResamplerState) -> tuple[FloatArray, ResamplerState]:
        """Take f32 mono (n,) at ``rate_hz``; return the f32 mono (m,) at ``to_hz`` that is decided by it."""
        if self.rate_hz == self.to_hz:
            end_sample = state.next_sample + len(samples)
            return samples, ResamplerState(state.tail, end_sample, end_sample)
        buffer = np.concatenate([state.tail, samples])
        end_sample = state.tail_start_sample + len(buffer)
        # Output n needs the inputs from floor(n * down / up) - half + 1 to floor(n * down / up) + half.
        num_decided = max(0, ((end_sample - self._half) * self._up - 1) // self._down + 1)
        num_blocks = max(0, num_decided - state.next_sample) // BLOCK_SAMPLES
        if num_blocks == 0:
            return np.zeros(0, dtype=np.float32), ResamplerState(buffer, state.tail_start_sample, state.next_sample)
        windows = np.lib.stride_tricks.sliding_window_view(buffer, 2 * self._half)
        output = np.empty((num_blocks, BLOCK_SAMPLES), dtype=np.float32)
        for index in range(num_blocks):
            first_sample = state.next_sample + index * BLOCK_SAMPLES
            numerators = np.arange(first_sample, first_sample + BLOCK_SAMPLES, dtype=np.int64) * self._down
            starts, phases = np.divmod(numerators, self._up)
            starts += 1 - self._half - state.tail_start_sample
            np.einsum("nk,nk->n", windows[starts], self._filters[phases], out=output[index])
        next_sample = state.next_sample + num_blocks * BLOCK_SAMPLES
        keep_from = next_sample * self._down // self._up - self._half + 1
        used = min(max(0, keep_from - state.tail_start_sample), len(buffer))
        tail = buffer[used:].copy()
        return output.ravel(), ResamplerState(tail, state.tail_start_sample + used, next_sample)

    def flush(self, state: ResamplerState) -> FloatArray:
        """Return the rest, f32 (m,): what lies inside the input and waited for its right context."""
        end_sample = state.tail_start_sample + len(state.tail)
        num_left = ceil(end_sample * self._up / self._down) - state.next_sample
        if num_left <= 0:
            return np.zeros(0, dtype=np.float32)
        # Silence follows, enough of it to decide every block that holds one of the outputs left.
        num_inputs = self._half + (num_left + BLOCK_SAMPLES) * self._down // self._up + 1
        output, _ = self.step(np.zeros(num_inputs, dtype=np.float32), state)
        return output[:num_left]


def resampler_for(rate_hz: int) -> Resampler:
    """Return the resampler of a rate, made once: it holds no stream, only its filters.

    Raises:
        InputError: as `Resampler`.
    """
    return _kept_resampler(_checked_rate(rate_hz))


def to_mono(samples: npt.NDArray[Any]) -> FloatArray:
    """Return f32 mono (n,) in [-1, 1] of ``samples`` (n,) or (n, channels): signed or unsigned integers, or floats.

    Channels are averaged. Floats may be somewhat louder; those that are no sound at all, not finite or beyond a million
    times full scale, become zero, so that one bad sample cannot spoil a stream.

    Raises:
        InputError: the shape or the sample type is another one.
    """
    try:
        samples = np.asarray(samples)
    except ValueError as error:  # lists of other lengths than each other
        raise InputError(f"The audio is no array ({error}); give (n,) or (n, channels).") from error
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= MAX_CHANNELS):
        raise InputError(
            f"The audio has shape {samples.shape}; give (n,) or (n, channels) with 1 to {MAX_CHANNELS} channels."
        )
    floats = _to_float(samples)
    if floats.ndim == 1:
        return floats
    # Channel by channel: the order of additions, and so the last bit, must not depend on the number of samples.
    total = floats[:, 0].copy()
    for channel_index in range(1, floats.shape[1]):
        total += floats[:, channel_index]
    total /= np.float32(floats.shape[1])
    return total


@lru_cache(maxsize=4)
def _kept_resampler(rate_hz: int) -> Resampler:
    return Resampler(rate_hz)


def _checked_rate(rate_hz: object) -> int:
    if (
        isinstance(rate_hz, int | float | np.integer | np.floating)
        and MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ
        and rate_hz == int(rate_hz)
        and (rate_hz <= MAX_ODD_RATE_HZ or rate_hz % 100 == 0)
    ):
        return int(rate_hz)
    raise InputError(
        f"The audio has a sample rate of {rate_hz!r} Hz; whole rates from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, "
        f"above {MAX_ODD_RATE_HZ} Hz multiples of 100, can be used. Convert it first, or check the rate that was given."
    )


def _to_float(samples: npt.NDArray[Any]) -> FloatArray:
    kind, full_scale = samples.dtype.kind, np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    if kind == "i":
        return samples.astype(np.float32) / full_scale
    if kind == "u":
        return (samples.astype(np.float32) - full_scale) / full_scale
    if kind == "f":
        is_sound = np.abs(samples) <= WILDEST  # False for NaN
        return (samples if is_sound.all() else np.where(is_sound, samples, 0.0)).astype(np.float32)
    raise InputError(
        f"The audio samples are of type {samples.dtype}; give integers such as int16, or floats in [-1, 1]."
    )


@lru_cache(maxsize=4)
def _polyphase_filters(up: int, down: int) -> FloatArray:
    """Return f32 (up, 2 * half): row p holds the taps of the outputs that fall p / up after an input sample."""
    stretch = max(1.0, down / up)
    half = ceil(ZERO_CROSSINGS * stretch)
    phases = np.arange(up, dtype=np.float64)[:, None] / up
    distances = np.arange(-half + 1, half + 1, dtype=np.float64)[None, :] - phases
    window = np.i0(KAISER_BETA * np.sqrt(np.maximum(0.0, 1.0 - np.square(distances / half))))
    taps = np.sinc(distances * CUTOFF / stretch) * window
    # Each phase passes a constant unchanged; without this the phases would differ a little and hum.
    filters: FloatArray = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
    return filters
