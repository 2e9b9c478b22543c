"""Words borrowed from other speakers, so that the voice does not predict the words.

Where few speakers say few sentences each, some words are said by some speakers only: a network learns the voices
instead of the words, and fails on new voices. Only sound is replaced, since pictures would jump at the word's borders.
The clip's own pictures stay and do not match the borrowed words: ``avsr.train.steps`` and
``avsr.train.augment.examples`` remove them, or use them to teach fusion to distrust lips that do not match.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avsr.corpora import AlignedWord
from avsr.train.packs.reader import Clip, ClipData
from avsr.types import SAMPLE_RATE, TICK_S, TICK_SAMPLES, FloatArray

T = TypeVar("T")
FADE_SAMPLES = 160
"""Length of the cross-fade at a cut: 10 ms, half of it on each side."""
MAX_GAIN = 4.0
"""Limit of the gain by which a borrowed word is matched to the loudness of the clip."""


class WordDonors:
    """Clips that words are borrowed from: those of ``clips`` with word times; all of them must have sound."""

    def __init__(self, clips: Iterable[Clip]) -> None:
        # For sentences of so many words, at a place in them: who says which word in which clips.
        self._said: dict[tuple[int, int], dict[str, dict[str, list[Clip]]]] = {}
        timed = [clip for clip in clips if clip.words]
        self._clips = frozenset(timed)
        for clip in timed:
            for place, word in enumerate(clip.words):
                by_word = self._said.setdefault((len(clip.words), place), {})
                by_word.setdefault(word.text, {}).setdefault(clip.speaker, []).append(clip)

    def __contains__(self, clip: Clip) -> bool:
        """Tell whether ``clip``, unchanged, is one of them."""
        return clip in self._clips

    def num_words(self, length: int, place: int) -> int:
        """Return how many different words are said at ``place`` of sentences of ``length`` words."""
        return len(self._said[length, place])

    def choose(self, length: int, place: int, rng: np.random.Generator) -> Clip:
        """Choose a word that is said there, each as likely as the others, then who says it, then where."""
        by_word = self._said[length, place]
        by_speaker = by_word[_any_of(sorted(by_word), rng)]
        return _any_of(by_speaker[_any_of(sorted(by_speaker), rng)], rng)


def swap_words(
    clip: Clip,
    data: ClipData,
    donors: WordDonors,
    load: Callable[[Clip], ClipData],
    share: float,
    rng: np.random.Generator,
) -> tuple[Clip, ClipData]:
    """Replace words by those at the same places of other clips: of one grammar, so that sentences stay sentences.

    ``share`` is the probability at the place with the most different words; at others it is smaller in proportion to
    their number, since every speaker has said the few words there often. A clip that is not one of ``donors`` stays
    unchanged.
    """
    if clip not in donors:
        return clip, data
    length = len(clip.words)
    nums_words = [donors.num_words(length, place) for place in range(length)]
    for place, num_words in enumerate(nums_words):
        if rng.random() < share * num_words / max(nums_words):
            donor = donors.choose(length, place, rng)
            if donor.path != clip.path:
                clip, data = replace_word(clip, data, place, donor, load(donor))
    return clip, data


def replace_word(clip: Clip, data: ClipData, place: int, donor: Clip, donor_data: ClipData) -> tuple[Clip, ClipData]:
    """Replace the word at ``place`` by the one at the same place of ``donor``; the pictures still show the old one.

    The length changes by whole ticks, so that ticks stay aligned with the sound however often this is done; the end of
    the borrowed word is moved by up to half a tick for it. During the word the pictures are slowed down or sped up.
    """
    old, new = clip.words[place], donor.words[place]
    old_s = old.end_s - old.start_s
    longest = math.floor((donor.num_ticks * TICK_S - new.start_s - old_s) / TICK_S)
    longer_ticks = max(math.ceil(-old_s / TICK_S), min(longest, round((new.end_s - new.start_s - old_s) / TICK_S)))
    longer_s = longer_ticks * TICK_S

    middles_s = (np.arange(data.num_ticks + longer_ticks) + 0.5) * TICK_S
    is_new = (middles_s >= old.start_s) & (middles_s < old.end_s + longer_s)
    in_word_s = (middles_s - old.start_s) * (old_s / max(TICK_S / 2, old_s + longer_s))
    after_s = np.where(is_new, old.start_s + in_word_s, middles_s - longer_s)
    own = _ticks_at(np.where(middles_s < old.start_s, middles_s, after_s), data)

    loudness = _loudness(clip.words, data.audio), _loudness(donor.words, donor_data.audio)
    gain = min(MAX_GAIN, loudness[0] / loudness[1]) if min(loudness) > 0 else 1.0
    first, last = round(old.start_s * SAMPLE_RATE), round(old.end_s * SAMPLE_RATE)
    lent_first = round(new.start_s * SAMPLE_RATE)
    lent_last = lent_first + last - first + longer_ticks * TICK_SAMPLES
    word = np.float32(gain) * _cut(donor_data.audio, lent_first, lent_last)
    changed = ClipData(
        audio=_fade_together([_cut(data.audio, 0, first), word, _cut(data.audio, last, len(data.audio))]),
        lips=data.lips[own],
        heard=is_new | data.heard[own],
        visible=data.visible[own],
    )
    words = (
        *clip.words[:place],
        AlignedWord(new.text, old.start_s, old.end_s + longer_s),
        *(AlignedWord(word.text, word.start_s + longer_s, word.end_s + longer_s) for word in clip.words[place + 1 :]),
    )
    text = " ".join(word.text for word in words)
    return replace(clip, text=text, words=words, num_ticks=changed.num_ticks), changed


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


def _cut(audio: FloatArray, first: int, last: int) -> FloatArray:
    """Return the samples from ``first`` to before ``last``, and half a fade more on each side."""
    half = FADE_SAMPLES // 2
    padded = np.pad(audio, (half, half + max(0, last - len(audio))))  # rounding may ask for a sample more
    return padded[first : max(first, last) + 2 * half]


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
