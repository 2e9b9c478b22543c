"""A lamp that talks: its mouth opens as the sound swells, at the same time or later."""

from __future__ import annotations

import numpy as np
from stand_ins import pictures

from avsr.types import SAMPLE_RATE, TICK_S, TICK_SAMPLES, FloatArray, VideoFrame


def talk(duration_s: float, late_s: float, seed: int = 1) -> tuple[FloatArray, list[VideoFrame]]:
    """Return sound, f32 (n,) at 16 kHz, and pictures at 25 Hz, which show each moment ``late_s`` after it was heard."""
    rng = np.random.default_rng(seed)
    num_ticks = round(duration_s / TICK_S)
    syllables = np.convolve(rng.random(num_ticks) < 0.2, np.hanning(7), "same").clip(0, 1)
    level = np.interp(np.arange(num_ticks * TICK_SAMPLES) / TICK_SAMPLES - 0.5, np.arange(num_ticks), syllables)
    samples = 10 ** ((-50 + 30 * level) / 20) * rng.normal(size=len(level))
    frames = pictures(duration_s, seed=seed)
    for frame in frames:
        y, x = np.unravel_index(int(frame.rgb[..., 0].argmax()), frame.rgb.shape[:2])
        moment = (frame.pts_us / 1e6 + TICK_S / 2 - late_s) * SAMPLE_RATE
        frame.rgb[y, x, 1] = round(20 + 100 * level[min(max(int(moment), 0), len(level) - 1)])
    return (np.round(samples.clip(-1, 1) * 32767) / 32768).astype(np.float32), frames
