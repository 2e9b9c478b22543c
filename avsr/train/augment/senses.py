"""Missing senses: for the whole clip or for a while, never both senses at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avsr.train.packs.reader import ClipData
from avsr.types import TICK_SAMPLES, BoolArray

SHORTEST_ABSENCE_TICKS, LONGEST_ABSENCE_TICKS = 5, 75
"""0.2 to 3 s; it may outlast the clip."""


def drop_a_sense(
    data: ClipData,
    rng: np.random.Generator,
    *,
    drop_audio: float,
    drop_video: float,
    vanish_audio: float,
    vanish_video: float,
) -> ClipData:
    """Remove one sense or none; the arguments are the probabilities of removing it throughout, or for a while.

    Where only one sense is present, it is kept.
    """
    everywhere = np.ones(data.num_ticks, np.bool_)
    drawn = rng.random()
    losses = (
        ("audio", drop_audio, everywhere),
        ("video", drop_video, everywhere),
        ("audio", vanish_audio, _absence(data.num_ticks, rng)),
        ("video", vanish_video, _absence(data.num_ticks, rng)),
    )
    for sense, share, absent in losses:
        if drawn < share:
            return without_audio(data, absent) if sense == "audio" else without_video(data, absent)
        drawn -= share
    return data


def without_audio(data: ClipData, absent: BoolArray) -> ClipData:
    """Remove the sound where ``absent`` bool (T,), except where nothing is seen either."""
    heard = data.heard & ~(absent & data.visible)
    return replace(data, audio=data.audio * heard.repeat(TICK_SAMPLES).astype(np.float32), heard=heard)


def without_video(data: ClipData, absent: BoolArray) -> ClipData:
    """Remove the pictures where ``absent`` bool (T,), except where nothing is heard either."""
    visible = data.visible & ~(absent & data.heard)
    return replace(data, lips=data.lips * visible[:, None, None].astype(np.uint8), visible=visible)


def _absence(num_ticks: int, rng: np.random.Generator) -> BoolArray:
    absent = np.zeros(num_ticks, np.bool_)
    first = int(rng.integers(0, max(1, num_ticks)))
    absent[first : first + int(rng.integers(SHORTEST_ABSENCE_TICKS, LONGEST_ABSENCE_TICKS + 1))] = True
    return absent
