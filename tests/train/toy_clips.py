"""Clips that a tiny network can learn in seconds: every word is a tone and a shade of gray."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from avsr.corpora import AlignedWord
from avsr.train.packs.codec import encode_audio, encode_lips
from avsr.train.packs.prepare import FAILED_FILE, encode
from avsr.train.packs.reader import Clip, ClipData, spans_of
from avsr.train.packs.writer import EncodedClip, PackWriter
from avsr.types import LIP_SIZE, SAMPLE_RATE, TICK_S, TICK_SAMPLES

WORDS = ("bin", "blue", "lay", "red")
WORD_TICKS, LEAD_TICKS = 8, 10


def make_clip(words: list[str], index: int) -> tuple[Clip, ClipData]:
    """Say ``words``: a lead, then 8 ticks a word, then a tail that differs from clip to clip."""
    num_ticks = LEAD_TICKS + WORD_TICKS * len(words) + LEAD_TICKS + index % 3
    audio = np.random.default_rng(index).normal(scale=0.001, size=num_ticks * TICK_SAMPLES)
    lips = np.full((num_ticks, LIP_SIZE, LIP_SIZE), 128, np.uint8)
    aligned = []
    for place, word in enumerate(words):
        start = LEAD_TICKS + WORD_TICKS * place
        span = slice(start * TICK_SAMPLES, (start + WORD_TICKS) * TICK_SAMPLES)
        tone_hz = 300.0 * (1 + WORDS.index(word)) ** 1.5
        audio[span] += 0.2 * np.sin(2 * np.pi * tone_hz * np.arange(num_ticks * TICK_SAMPLES)[span] / SAMPLE_RATE)
        lips[start : start + WORD_TICKS] = 50 * WORDS.index(word)
        aligned.append(AlignedWord(word, start * TICK_S, (start + WORD_TICKS) * TICK_S))
    split = "train" if index < 8 else "dev"
    clip = Clip(f"{index}.mp4", "s1", split, " ".join(words), tuple(aligned), num_ticks)
    present = np.ones(num_ticks, np.bool_)
    return clip, ClipData(audio.astype(np.float32), lips, present, present.copy())


def write_pack(directory: Path, made: Sequence[tuple[Clip, ClipData]]) -> None:
    """Write clips as `prepare` would."""
    with PackWriter(directory) as pack:
        for clip, data in made:
            pack.add([clip], encoded(data))
    (directory / FAILED_FILE).touch()


def encoded(data: ClipData) -> EncodedClip:
    """Encode a clip as `prepare` would."""
    return EncodedClip(
        num_ticks=data.num_ticks,
        audio=encode_audio(data.audio) if data.heard.any() else b"",
        lips=encode_lips(data.lips) if data.visible.any() else b"",
        heard=spans_of(data.heard),
        visible=spans_of(data.visible),
        is_filmed=bool(data.visible.any()),
        sync_percent=None,
    )


@cache
def encode_once(path: Path) -> EncodedClip:
    """Read a file as `prepare` would, for tests of what comes after."""
    return encode(path)
