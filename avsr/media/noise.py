"""Noise added to speech at a stated signal-to-noise ratio: recordings, coloured noise, babble of other people's speech.

Pure functions on f32 arrays (n,) of one common sample rate. Silence is data: it is never divided by.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avsr.errors import InputError
from avsr.types import SAMPLE_RATE, FloatArray

MIN_BABBLE_VOICES = 4
MAX_BABBLE_VOICES = 8
LEVEL_FRAME_SAMPLES = 320
"""Samples in a frame of the level meter: 20 ms at 16 kHz."""
ACTIVE_MARGIN_DB = 15.9
"""A frame is active when it is at most this far below the active level (the margin of ITU-T P.56)."""
QUIET_DB = 20.0
"""A piece this far below the level of its recording is a pause in the noise, so another one is drawn."""
NUM_TRIES = 16
BABBLE_VOICE_RMS = 0.05
"""Active level of each voice in the babble (-26 dB of full scale)."""
LOWEST_HZ = 20.0
"""Coloured noise is flat below: else most of the power, the more the longer it lasts, would be inaudible."""


def mix_at_snr(speech: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
    """Return ``speech`` (n,) plus ``noise`` (m,) looped or cut to n samples and scaled to ``snr_db``.

    The ratio is the power of the active speech (`active_rms`: pauses do not count) over the mean power of the noise
    that is used. The speech is never rescaled, with one exception: where the mixture would leave [-1, 1], the whole
    mixture is turned down to fit, which keeps the ratio. Where either is silent or empty there is no ratio to reach,
    and a copy of the speech is returned.

    Raises:
        InputError: an array is not one-dimensional, or ``snr_db`` is not a finite number.
    """
    speech, noise = _as_mono(speech, "speech"), _as_mono(noise, "noise")
    if not np.isfinite(snr_db):
        raise InputError(f"The signal-to-noise ratio is {snr_db} dB; give a finite number.")
    if noise.size == 0 or speech.size == 0:
        return speech.copy()
    noise = np.resize(noise, speech.shape)
    speech_rms, noise_rms = active_rms(speech), rms(noise)
    if speech_rms == 0.0 or noise_rms == 0.0:
        return speech.copy()
    gain = speech_rms / noise_rms * 10.0 ** (-snr_db / 20.0)
    mixed = speech + np.float32(gain) * noise
    peak = float(np.max(np.abs(mixed)))
    return mixed / np.float32(peak) if peak > 1.0 else mixed


def babble(utterances: Sequence[FloatArray], num_samples: int, rng: np.random.Generator) -> FloatArray:
    """Return f32 (num_samples,): 4 to 8 of the ``utterances`` (n_i,), each at the same level, talking at once.

    Each voice begins at a random place of its utterance and is looped. Voices repeat only where fewer are given than
    drawn. Silent utterances are passed over; where all are silent the babble is silent.

    Raises:
        InputError: there are no utterances, one is not one-dimensional, or ``num_samples`` is negative.
    """
    if not utterances:
        raise InputError("Babble needs at least one utterance, and none was given.")
    if num_samples < 0:
        raise InputError(f"Babble of {num_samples} samples was asked for; ask for 0 or more.")
    num_voices = int(rng.integers(MIN_BABBLE_VOICES, MAX_BABBLE_VOICES + 1))
    chosen = rng.choice(len(utterances), size=num_voices, replace=num_voices > len(utterances))
    voices = [_as_mono(utterances[int(index)], f"utterance {index}") for index in chosen]
    voices = [voice for voice in voices if voice.any()]
    return sum_voices(voices, [int(rng.integers(voice.size)) for voice in voices], num_samples)


def sum_voices(voices: Sequence[FloatArray], start_samples: Sequence[int], num_samples: int) -> FloatArray:
    """Return f32 (num_samples,): the ``voices`` (n_i,), none of them silent, each at the same level, talking at once.

    Each begins at its own sample and is looped.
    """
    total = np.zeros(num_samples, dtype=np.float32)
    for voice, start_sample in zip(voices, start_samples, strict=True):
        gain = np.float32(BABBLE_VOICE_RMS / active_rms(voice))
        total += np.resize(np.roll(voice, -start_sample), num_samples) * gain
    return total


def coloured_noise(num_samples: int, slope: float, rng: np.random.Generator) -> FloatArray:
    """Return Gaussian noise at 16 kHz, f32 (num_samples,), of mean power 0.01, that falls with frequency as f^-slope.

    0 is white, 1 is pink. Below 20 Hz it is flat.
    """
    if num_samples == 0:
        return np.zeros(0, np.float32)
    frequencies_hz = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)
    gains = np.maximum(frequencies_hz, LOWEST_HZ) ** (-slope / 2)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(num_samples)) * gains, num_samples)
    scaled: FloatArray = (0.1 * noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)).astype(np.float32)
    return scaled


def loud_start(recording: FloatArray, num_samples: int, rng: np.random.Generator) -> int:
    """Return where in ``recording`` (n,) to begin a piece, looped if need be, that is not a pause.

    It is the first of 16 random places where the piece is at most 20 dB below the whole, else the loudest of them.
    """
    num_places = len(recording) - num_samples + 1
    starts = [int(start) for start in rng.integers(num_places if num_places > 0 else len(recording), size=NUM_TRIES)]
    enough = rms(recording) * 10 ** (-QUIET_DB / 20)
    levels: dict[int, float] = {}
    for start in starts:
        levels[start] = rms(looped(recording, start, num_samples))
        if levels[start] >= enough:
            return start
    return max(starts, key=levels.__getitem__)


def looped(recording: FloatArray, start: int, num_samples: int) -> FloatArray:
    """Return f32 (num_samples,) of ``recording`` (n,) from ``start`` on, over and over."""
    if start + num_samples <= len(recording):
        return recording[start : start + num_samples]
    return np.resize(np.roll(recording, -start), num_samples)


def active_rms(samples: FloatArray) -> float:
    """Return the root mean square over the frames of ``samples`` (n,) in which somebody speaks; 0.0 for silence.

    A frame of 20 ms is active when its power is at most 15.9 dB below the mean power of the active frames; three rounds
    from the mean of all frames settle it.
    """
    samples = _as_mono(samples, "samples")
    num_frames = -(-samples.size // LEVEL_FRAME_SAMPLES)
    if num_frames == 0:
        return 0.0
    # The last frame is padded with zeros; it counts as the share of a frame that it is.
    squares = np.zeros(num_frames * LEVEL_FRAME_SAMPLES)
    squares[: samples.size] = np.square(samples, dtype=np.float64)
    sums = squares.reshape(num_frames, LEVEL_FRAME_SAMPLES).sum(axis=1)
    lengths = np.full(num_frames, LEVEL_FRAME_SAMPLES)
    lengths[-1] = samples.size - (num_frames - 1) * LEVEL_FRAME_SAMPLES
    powers = sums / lengths
    level = float(sums.sum() / samples.size)
    for _ in range(3):
        active = powers >= level * 10.0 ** (-ACTIVE_MARGIN_DB / 10.0)
        level = float(sums[active].sum() / lengths[active].sum())
    return float(np.sqrt(level))


def rms(samples: FloatArray) -> float:
    """Return the root mean square of ``samples`` (n,); 0.0 where there are none."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else 0.0


def _as_mono(samples: FloatArray, name: str) -> FloatArray:
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1:
        raise InputError(f"The {name} has shape {samples.shape}; give one channel, shape (n,).")
    return samples
