"""People who speak faster or slower, higher or lower. Both senses and the words' times stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avsr.corpora import AlignedWord
from avsr.train.packs.reader import ClipData
from avsr.types import TICK_SAMPLES, FloatArray

FRAME_SAMPLES, FRAME_HOP = 400, 200
"""25 ms, two or more periods of most voices, and half of it."""
SEARCH = 120
"""Frames are moved by up to 7.5 ms to fit: half a period of a low voice."""


def change_speed(
    data: ClipData, words: Sequence[AlignedWord], factor: float
) -> tuple[ClipData, tuple[AlignedWord, ...]]:
    """Return the clip ``factor`` times as fast, to the nearest tick, and the words where they are in it.

    Sound is resampled, so that the voice goes up as it speeds up (Ko et al. 2015, "Audio augmentation for speech
    recognition"); pictures are left out or repeated, as cameras of other rates do.
    """
    num_ticks = max(1, round(data.num_ticks / factor))
    # The middle of each new tick, in the old clip.
    taken = ((np.arange(num_ticks) + 0.5) * data.num_ticks / num_ticks).astype(np.int64)
    ratio = num_ticks / data.num_ticks
    changed = ClipData(
        resample_to(data.audio, num_ticks * TICK_SAMPLES), data.lips[taken], data.heard[taken], data.visible[taken]
    )
    return changed, tuple(AlignedWord(word.text, word.start_s * ratio, word.end_s * ratio) for word in words)


def shift_pitch(audio: FloatArray, semitones: float) -> FloatArray:
    """Return ``audio`` f32 (n,) with every frequency shifted, f32 (n,); what is said stays where it is, within 10 ms.

    It is stretched in time at its own pitch, and resampling undoes the stretch.
    """
    if semitones == 0 or not len(audio):
        return audio
    # Whole hops: lengths with large prime factors are slow to resample.
    num_hops = max(1, round(len(audio) * 2 ** (semitones / 12) / FRAME_HOP))
    return resample_to(stretch(audio, num_hops * FRAME_HOP), len(audio))


def stretch(audio: FloatArray, num_samples: int) -> FloatArray:
    """Return ``audio`` f32 (n,) made longer or shorter at the same pitch, f32 (num_samples,).

    Overlap-add of frames, each taken from where it best continues the one before (WSOLA: Verhelst and
    Roelands 1993, "An overlap-add technique based on waveform similarity").
    """
    ratio = num_samples / max(1, len(audio))
    num_frames = num_samples // FRAME_HOP + 2
    padded = np.pad(audio, (SEARCH + FRAME_HOP, 3 * (SEARCH + FRAME_SAMPLES)))
    window = np.hanning(FRAME_SAMPLES + 1)[:-1]
    out = np.zeros(num_frames * FRAME_HOP + FRAME_SAMPLES)
    taken = SEARCH
    for index in range(num_frames):
        wanted = padded[
            taken + FRAME_HOP : taken + FRAME_HOP + FRAME_SAMPLES
        ]  # the natural continuation of the last frame
        nominal = min(round(index * FRAME_HOP / max(ratio, 1e-9)), len(audio) + FRAME_HOP)
        around = padded[nominal : nominal + FRAME_SAMPLES + 2 * SEARCH]
        taken = nominal + (int(np.argmax(np.correlate(around, wanted, "valid"))) if index else SEARCH)
        out[index * FRAME_HOP :][:FRAME_SAMPLES] += window * padded[taken : taken + FRAME_SAMPLES]
    return out[FRAME_HOP:][:num_samples].astype(np.float32)


def resample_to(audio: FloatArray, num_samples: int) -> FloatArray:
    """Return the band-limited curve through ``audio`` f32 (n,) sampled ``num_samples`` times, f32 (num_samples,)."""
    if len(audio) in (0, num_samples):
        return np.resize(audio, num_samples)
    resampled: FloatArray = np.fft.irfft(np.fft.rfft(audio) * (num_samples / len(audio)), num_samples).astype(
        np.float32
    )
    return resampled
