"""Words lent from one speaker to another, so that who speaks does not tell what is said.

Where few people say a few sentences each, some happen to say words that others never say: a network learns the voices
and the faces instead of the words, and takes a new one for those that it knows best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avsr.corpora import AlignedWord
from avsr.train.packs.prepared import Clip, ClipData
from avsr.types import SAMPLE_RATE, TICK_S, TICK_SAMPLES, FloatArray

T = TypeVar("T")
FADE_SAMPLES = 160
"""One sound gives way to the other within 10 ms, half of them on each side of the cut."""
MAX_GAIN = 4.0
"""Speech is lent as loud as that around it, as far as this goes."""


class Lenders:
    """The clips that words can be lent from: those that have a time for every word."""

    def __init__(self, clips: Iterable[Clip]) -> None:
        # For sentences of so many words, at a place in them: who says which word in which clips.
        self._said: dict[tuple[int, int], dict[str, dict[str, list[Clip]]]] = {}
        for clip in filter(is_timed, clips):
            for place, word in enumerate(clip.words):
                by_word = self._said.setdefault((len(clip.words), place), {})
                by_word.setdefault(word.text, {}).setdefault(clip.speaker, []).append(clip)

    def num_words(self, length: int, place: int) -> int:
        """Return how many different words are said at ``place`` of sentences of ``length`` words."""
        return len(self._said.get((length, place), {}))

    def choose(self, length: int, place: int, rng: np.random.Generator) -> Clip:
        """Choose a word that is said there, each as likely as the others, then who says it, then where."""
        by_word = self._said[length, place]
        by_speaker = by_word[_any_of(sorted(by_word), rng)]
        return _any_of(by_speaker[_any_of(sorted(by_speaker), rng)], rng)


def is_timed(clip: Clip) -> bool:
    """Tell whether the clip has a time for every word."""
    return bool(clip.words) and [word.text for word in clip.words] == clip.text.split()


def lend_words(
    clip: Clip,
    data: ClipData,
    lenders: Lenders,
    load: Callable[[Clip], ClipData],
    share: float,
    rng: np.random.Generator,
) -> tuple[Clip, ClipData]:
    """Replace words by those at the same places of other clips, so that what is said stays a sentence.

    ``share`` is the probability at the place with the most words to choose from. At others it is less, in proportion
    to how many there are: all speakers have said the few often enough.
    """
    if not is_timed(clip):
        return clip, data
    length = len(clip.words)
    nums_words = [lenders.num_words(length, place) for place in range(length)]
    for place, num_words in enumerate(nums_words):
        if num_words and rng.random() < share * num_words / max(nums_words):
            lender = lenders.choose(length, place, rng)
            clip, data = replace_word(clip, data, place, lender, load(lender))
    return clip, data


def replace_word(clip: Clip, data: ClipData, place: int, lender: Clip, lender_data: ClipData) -> tuple[Clip, ClipData]:
    """Replace the word at ``place`` by the one at the same place of ``lender``, in sound and picture.

    What follows moves by the difference of their lengths. Pictures stay with the sound to half a tick.
    """
    old, new = clip.words[place], lender.words[place]
    longer_s = (new.end_s - new.start_s) - (old.end_s - old.start_s)
    num_ticks = max(1, round(data.num_ticks + longer_s / TICK_S))

    middles_s = (np.arange(num_ticks) + 0.5) * TICK_S
    is_new = (middles_s >= old.start_s) & (middles_s < old.start_s + new.end_s - new.start_s)
    own_s = middles_s - np.where(middles_s < old.start_s, 0.0, longer_s)
    own = _ticks_at(own_s, data)
    lent = _ticks_at(middles_s - old.start_s + new.start_s, lender_data)
    lips = data.lips[own]
    lips[is_new] = lender_data.lips[lent[is_new]]

    loudness = _loudness(clip.words, data.audio), _loudness(lender.words, lender_data.audio)
    gain = min(MAX_GAIN, loudness[0] / loudness[1]) if min(loudness) > 0 else 1.0
    word = np.float32(gain) * _cut(lender_data.audio, new.start_s, new.end_s)
    before, after = _cut(data.audio, 0.0, old.start_s), _cut(data.audio, old.end_s, data.num_ticks * TICK_S)
    audio = _fade_together([before, word, after])
    num_missing = num_ticks * TICK_SAMPLES - len(audio)  # half a tick at most
    changed = ClipData(
        audio=np.pad(audio, (0, max(0, num_missing)), mode="edge")[: num_ticks * TICK_SAMPLES],
        lips=lips,
        heard=np.where(is_new, lender_data.heard[lent], data.heard[own]),
        visible=np.where(is_new, lender_data.visible[lent], data.visible[own]),
    )
    words = (
        *clip.words[:place],
        AlignedWord(new.text, old.start_s, old.end_s + longer_s),
        *(AlignedWord(word.text, word.start_s + longer_s, word.end_s + longer_s) for word in clip.words[place + 1 :]),
    )
    text = " ".join(word.text for word in words)
    return replace(clip, text=text, words=words, num_ticks=num_ticks), changed


def _any_of(items: Sequence[T], rng: np.random.Generator) -> T:
    return items[int(rng.integers(len(items)))]


def _ticks_at(times_s: NDArray[np.float64], data: ClipData) -> NDArray[np.int64]:
    ticks: NDArray[np.int64] = np.floor(times_s / TICK_S).astype(np.int64)
    return ticks.clip(0, data.num_ticks - 1)


def _loudness(words: Sequence[AlignedWord], audio: FloatArray) -> float:
    """Return the RMS of what is said."""
    first, last = (round(time_s * SAMPLE_RATE) for time_s in (words[0].start_s, words[-1].end_s))
    said = audio[max(0, first) : max(0, last)]
    return float(np.sqrt(np.mean(said**2))) if len(said) else 0.0


def _cut(audio: FloatArray, start_s: float, end_s: float) -> FloatArray:
    """Return ``audio`` from ``start_s`` to ``end_s``, and half a fade more on each side."""
    half = FADE_SAMPLES // 2
    first, last = (max(0, round(time_s * SAMPLE_RATE)) for time_s in (start_s, end_s))
    return np.pad(audio, half)[first : max(first, last) + 2 * half]


def _fade_together(pieces: Sequence[FloatArray]) -> FloatArray:
    """Join pieces that ``_cut`` made; each gives way to the next while both sound."""
    half = FADE_SAMPLES // 2
    rise = ((np.arange(FADE_SAMPLES) + 0.5) / FADE_SAMPLES).astype(np.float32)
    starts = [0, *accumulate(len(piece) - FADE_SAMPLES for piece in pieces)]
    joined = np.zeros(starts[-1] + FADE_SAMPLES, np.float32)
    for piece, start in zip(pieces, starts, strict=False):
        faded = piece.astype(np.float32)
        faded[:FADE_SAMPLES] *= rise
        faded[len(faded) - FADE_SAMPLES :] *= rise[::-1]
        joined[start : start + len(piece)] += faded
    return joined[half : len(joined) - half]
