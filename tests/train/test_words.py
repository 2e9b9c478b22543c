"""Swapped words: the transcript and the word times are those of the sound, whoever speaks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_clips import WORDS, make_clip

from avsr.corpora import AlignedWord
from avsr.train.augment.words import WordDonors, replace_word, swap_words
from avsr.train.packs.reader import Clip, ClipData
from avsr.types import LIP_SIZE, SAMPLE_RATE, TICK_S, TICK_SAMPLES, FloatArray

sentences = st.lists(st.sampled_from(WORDS), min_size=3, max_size=3)
MADE = [make_clip([*words], index) for index, words in enumerate([WORDS[:3], WORDS[1:], WORDS[:3][::-1]])]
DATA = dict(MADE)


def tone_of(audio: FloatArray) -> int:
    """Return which word's tone is the strongest."""
    strongest_hz = np.argmax(np.abs(np.fft.rfft(audio * np.hanning(len(audio))))) * SAMPLE_RATE / len(audio)
    return int(np.argmin([abs(300.0 * (1 + index) ** 1.5 - strongest_hz) for index in range(len(WORDS))]))


def shortened(clip: Clip, place: int, ticks: float) -> Clip:
    """Say that the word at ``place`` begins later."""
    words = list(clip.words)
    words[place] = AlignedWord(words[place].text, words[place].start_s + ticks * TICK_S, words[place].end_s)
    return replace(clip, words=tuple(words))


@settings(deadline=None, max_examples=40)
@given(sentences, sentences, st.integers(0, 2), st.floats(0, 4), st.integers(0, 5))
def test_every_word_is_heard_where_it_is_said_to_be(
    own: list[str], lent: list[str], place: int, ticks: float, index: int
) -> None:
    clip, data = make_clip(own, index)
    donor, donor_data = make_clip(lent, index + 1)
    donor = shortened(donor, place, ticks)
    before = data.copy()
    changed, made = replace_word(clip, data, place, donor, donor_data)
    expected = [*own[:place], lent[place], *own[place + 1 :]]
    assert changed.text.split() == [word.text for word in changed.words] == expected
    assert changed.num_ticks == made.num_ticks == len(made.heard) == pytest.approx(clip.num_ticks - ticks, abs=0.51)
    assert made.audio.shape == (TICK_SAMPLES * made.num_ticks,)
    assert made.lips.shape == (made.num_ticks, LIP_SIZE, LIP_SIZE)
    assert made.visible.all() and made.visible.shape == made.heard.shape
    assert (made.audio.dtype, made.lips.dtype) == (np.float32, np.uint8)
    for word in changed.words:
        said = made.audio[round(word.start_s * SAMPLE_RATE) : round(word.end_s * SAMPLE_RATE)]
        assert tone_of(said) == WORDS.index(word.text)
    assert np.array_equal(data.audio, before.audio) and np.array_equal(data.lips, before.lips)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2), st.floats(-7, 7))
def test_pictures_go_slower_or_faster_in_a_swapped_word_and_then_as_before(place: int, ticks: float) -> None:
    (clip, data), (donor, donor_data) = MADE[0], MADE[1]
    numbered = np.broadcast_to(np.arange(clip.num_ticks, dtype=np.uint8)[:, None, None], data.lips.shape)
    if ticks < 0:  # the other way round: the old word is the short one
        clip = shortened(clip, place, -ticks)
    donor = shortened(donor, place, max(0.0, ticks))
    changed, made = replace_word(clip, replace(data, lips=numbered), place, donor, donor_data)
    shown = made.lips[:, 0, 0].astype(int)
    longer = changed.num_ticks - clip.num_ticks
    middles_s = (np.arange(changed.num_ticks) + 0.5) * TICK_S
    old, new = clip.words[place], changed.words[place]
    before, after = middles_s < new.start_s, middles_s >= new.end_s
    assert np.array_equal(shown[before], np.flatnonzero(before))
    assert np.array_equal(shown[after], np.flatnonzero(after) - longer)
    within = shown[~before & ~after]
    assert (np.diff(within) >= 0).all()
    first, last = old.start_s / TICK_S, old.end_s / TICK_S
    if len(within):
        step = (last - first) / len(within)
        assert first - 1 <= within[0] <= first + step and last - step - 1 <= within[-1] <= last


def test_a_word_swapped_with_itself_changes_nothing_but_fades() -> None:
    clip, data = MADE[0]
    changed, made = replace_word(clip, data, 1, clip, data)
    assert changed == clip
    assert np.array_equal(made.heard, data.heard)
    assert np.array_equal(made.lips, data.lips)
    assert np.allclose(made.audio[TICK_SAMPLES:-TICK_SAMPLES], data.audio[TICK_SAMPLES:-TICK_SAMPLES], atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from(WORDS), min_size=4, max_size=8), st.floats(0.3, 0.49), st.integers(0, 1 << 16))
def test_words_stay_where_they_are_said_to_be_when_every_one_is_replaced(
    sentence: list[str], ticks: float, seed: int
) -> None:
    """Each is a bit shorter than the last; what is rounded must not add up."""
    clip, data = make_clip(sentence, 0)
    lent = [str(word) for word in np.random.default_rng(seed).permutation(sentence)]
    donor, donor_data = make_clip(lent, 1)
    for place in range(len(sentence)):
        donor = shortened(donor, place, ticks + place % 2)
    for place in range(len(sentence)):
        clip, data = replace_word(clip, data, place, donor, donor_data)
    assert clip.text.split() == lent
    assert clip.num_ticks == data.num_ticks and len(data.audio) == TICK_SAMPLES * data.num_ticks
    for word in clip.words:
        said = data.audio[round(word.start_s * SAMPLE_RATE) : round(word.end_s * SAMPLE_RATE)]
        assert tone_of(said) == WORDS.index(word.text)


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.floats(0, 1)] * 4), st.integers(0, 2), st.integers(0, 2))
def test_words_may_be_of_any_length_and_anywhere_in_their_clips(
    times: tuple[float, float, float, float], own: int, lent: int
) -> None:
    (clip, data), (donor, donor_data) = MADE[own], MADE[lent]
    spans = [sorted(times[:2]), sorted(times[2:])]
    timed = [
        replace(each, text="bin", words=(AlignedWord("bin", *(share * each.num_ticks * TICK_S for share in span)),))
        for each, span in zip((clip, donor), spans, strict=True)
    ]
    changed, made = replace_word(timed[0], data, 0, timed[1], donor_data)
    assert changed.num_ticks == made.num_ticks == len(made.lips) == len(made.visible)
    assert made.audio.shape == (TICK_SAMPLES * made.num_ticks,)
    assert np.isfinite(made.audio).all()
    assert -1e-9 <= changed.words[0].start_s <= changed.words[0].end_s + 1e-9
    assert changed.words[0].end_s <= made.num_ticks * TICK_S + 1e-9


def test_swapped_words_are_as_loud_as_the_speech_around_them() -> None:
    (clip, data), (donor, donor_data) = MADE[0], MADE[1]
    whispered = replace(donor_data, audio=donor_data.audio / 3)
    _, made = replace_word(clip, data, 0, donor, whispered)
    _, usual = replace_word(clip, data, 0, donor, donor_data)
    assert np.allclose(made.audio, usual.audio, atol=1e-4)


def test_a_swapped_word_is_heard_and_the_silence_around_it_stays() -> None:
    (clip, data), (donor, donor_data) = MADE[0], MADE[1]
    silent = replace(data, heard=np.zeros(clip.num_ticks, np.bool_))
    changed, made = replace_word(clip, silent, 1, donor, donor_data)
    word = changed.words[1]
    middles_s = (np.arange(made.num_ticks) + 0.5) * TICK_S
    assert np.array_equal(made.heard, (middles_s >= word.start_s) & (middles_s < word.end_s))


def test_clips_that_are_no_donors_stay_as_they_are() -> None:
    (clip, data), (donor, donor_data) = MADE[0], MADE[1]
    lent = swap_words(clip, data, WordDonors([donor]), lambda _: donor_data, 1.0, np.random.default_rng(0))
    assert lent == (clip, data)


def test_whoever_speaks_may_say_any_word() -> None:
    """Of two speakers each has a first word of its own; after lending, neither gives it away."""
    clips = [replace(clip, speaker=f"s{index}") for index, (clip, _) in enumerate(MADE[:2])]
    data = dict(zip(clips, (data for _, data in MADE), strict=False))
    donors = WordDonors(clips)
    rng = np.random.default_rng(0)
    said = Counter(
        swap_words(clips[0], data[clips[0]], donors, data.__getitem__, 1.0, rng)[0].words[0].text for _ in range(200)
    )
    assert set(said) == {"bin", "blue"}
    assert 60 < said["bin"] < 140


def test_places_with_few_words_to_choose_from_are_seldom_changed() -> None:
    clips = [clip for clip, _ in (make_clip(["bin", word, "lay"], index) for index, word in enumerate(WORDS))]
    donors, asked = WordDonors(clips), Counter[int]()

    class Counting(WordDonors):
        def choose(self, length: int, place: int, rng: np.random.Generator) -> Clip:
            asked[place] += 1
            return donors.choose(length, place, rng)

    clip, data = make_clip(["bin", "blue", "lay"], 1)
    assert clip in donors
    rng = np.random.default_rng(0)
    for _ in range(200):
        swap_words(clip, data, Counting(clips), lambda donor: make_clip(donor.text.split(), 0)[1], 0.8, rng)
    assert 130 < asked[1] < 190
    assert 20 < asked[0] < 60 and 20 < asked[2] < 60


def test_clips_without_a_time_for_every_word_neither_give_nor_get_words() -> None:
    clip, data = MADE[0]
    untimed = replace(clip, words=())

    def never(_: Clip) -> ClipData:
        raise AssertionError("nothing is to be loaded")

    assert swap_words(untimed, data, WordDonors([clip]), never, 1.0, np.random.default_rng(0)) == (untimed, data)
    assert swap_words(clip, data, WordDonors([untimed]), never, 1.0, np.random.default_rng(0)) == (clip, data)
