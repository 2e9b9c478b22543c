"""Changes of timbre, as of another vocal tract or microphone, that keep the pitch."""

from __future__ import annotations

import numpy as np

from avsr.types import SAMPLE_RATE, FloatArray

FRAME_SAMPLES, FRAME_HOP = 512, 256
"""32 ms, so that a frame holds some periods of a low voice, and half of it."""
ENVELOPE_QUEFRENCY = 32
"""The envelope is what is left of the cepstrum below 2 ms: formants, but no harmonics of voices up to 500 Hz."""
MAX_GAIN_DB = 24.0
LOWEST_HZ = 100.0
NUM_BANDS = 6


def shift_formants(audio: FloatArray, semitones: float) -> FloatArray:
    """Return ``audio`` f32 (n,) as a longer or shorter vocal tract would say it, f32 (n,); the pitch stays.

    The spectral envelope is stretched along the frequency axis and the fine structure under it is left (cepstral
    source-filter separation, Oppenheim and Schafer 1968; tract length as augmentation: Jaitly and Hinton 2013, "Vocal
    tract length perturbation improves speech recognition").
    """
    if semitones == 0 or not len(audio):
        return audio
    window = np.sqrt(np.hanning(FRAME_SAMPLES + 1)[:-1])
    num_frames = -(-len(audio) // FRAME_HOP) + FRAME_SAMPLES // FRAME_HOP
    padded = np.pad(audio, (FRAME_SAMPLES, num_frames * FRAME_HOP - len(audio)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME_SAMPLES)[::FRAME_HOP][:num_frames]
    spectra = np.fft.rfft(frames * window)
    cepstra = np.fft.irfft(np.log(np.abs(spectra) + 1e-6))
    cepstra[:, ENVELOPE_QUEFRENCY : FRAME_SAMPLES - ENVELOPE_QUEFRENCY + 1] = 0
    envelopes = np.fft.rfft(cepstra).real
    num_bins = envelopes.shape[1]
    wanted = np.minimum(np.arange(num_bins) * 2 ** (-semitones / 12), num_bins - 1)
    below = np.minimum(wanted.astype(np.int64), num_bins - 2)
    share = wanted - below
    moved = envelopes[:, below] * (1 - share) + envelopes[:, below + 1] * share
    limit = MAX_GAIN_DB / 20 * np.log(10)
    changed = np.fft.irfft(spectra * np.exp(np.clip(moved - envelopes, -limit, limit))) * window
    out = np.zeros(num_frames * FRAME_HOP + FRAME_SAMPLES)
    for part in range(FRAME_SAMPLES // FRAME_HOP):  # frames this far apart do not overlap
        every = changed[part :: FRAME_SAMPLES // FRAME_HOP].ravel()
        out[part * FRAME_HOP :][: len(every)] += every
    overlap = np.sum(window**2) / FRAME_HOP
    shifted: FloatArray = (out[FRAME_SAMPLES:][: len(audio)] / overlap).astype(np.float32)
    return shifted


def equalise(audio: FloatArray, band_gains_db: FloatArray) -> FloatArray:
    """Return ``audio`` f32 (n,) with gains (b,), dB, at b frequencies from 100 Hz to 8 kHz on a logarithmic scale."""
    if not len(audio):
        return audio
    bands_hz = np.geomspace(LOWEST_HZ, SAMPLE_RATE / 2, len(band_gains_db))
    frequencies_hz = np.maximum(np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE), LOWEST_HZ)
    gains_db = np.interp(np.log(frequencies_hz), np.log(bands_hz), band_gains_db)
    equalised: FloatArray = np.fft.irfft(np.fft.rfft(audio) * 10 ** (gains_db / 20), len(audio)).astype(np.float32)
    return equalised


def random_band_gains(rng: np.random.Generator, most_db: float) -> FloatArray:
    """Draw the gains of a microphone, dB, each up to ``most_db`` either way."""
    return rng.uniform(-most_db, most_db, NUM_BANDS).astype(np.float32)
