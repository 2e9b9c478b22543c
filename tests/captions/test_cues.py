"""Subtitle layout: no word is lost or doubled, no cue overlaps, and every cue fits the screen."""

from __future__ import annotations

from itertools import pairwise

import pysubs2
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.captions.cues import MAX_LINE_CHARS, MAX_SHOWN_S, MIN_SHOWN_S, balance, lay_out
from avsr.captions.files import render
from avsr.types import Caption, Transcript, Word

SPOKEN = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz'é字"), min_size=1, max_size=14)


def segment(words: list[Word], index: int = 0) -> Caption:
    start_s, end_s = (words[0].start_s, words[-1].end_s) if words else (0.0, 0.0)
    return Caption(index, 0, True, tuple(words), 0, start_s, end_s, audio_weight=0.5, face_visible=1.0)


@st.composite
def speech(draw: st.DrawFn) -> list[Caption]:
    """Segments as the engine makes them: words in order, pauses of any length, now and then words of no length."""
    segments, now_s = [], draw(st.floats(0, 5))
    for index in range(draw(st.integers(0, 4))):
        words = []
        for text in draw(st.lists(SPOKEN, max_size=30)):
            now_s += draw(st.sampled_from([0.0, 0.0, 0.08, 0.4, 9.0]))
            end_s = now_s + draw(st.sampled_from([0.0, 0.04, 0.2, 0.6, 8.0]))
            words.append(Word(text, now_s, end_s, 0.9))
            now_s = end_s
        segments.append(segment(words, index))
    return segments


@settings(max_examples=80, deadline=None)
@given(speech())
def test_every_word_is_shown_once_and_in_order(segments: list[Caption]) -> None:
    words = [word for caption in segments for word in caption.words]
    cues = lay_out(segments)
    assert [word for cue in cues for word in cue.words] == words
    assert " ".join(cue.text.replace("\n", " ") for cue in cues) == " ".join(word.text for word in words)


@settings(max_examples=80, deadline=None)
@given(speech())
def test_cues_rise_and_never_overlap(segments: list[Caption]) -> None:
    cues = lay_out(segments)
    assert all(cue.start_s < cue.end_s for cue in cues)
    assert all(before.end_s <= after.start_s for before, after in pairwise(cues))


@settings(max_examples=80, deadline=None)
@given(speech())
def test_every_cue_fits_the_screen(segments: list[Caption]) -> None:
    for cue in lay_out(segments):
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        if len(cue.words) > 1:
            assert max(map(len, lines)) <= MAX_LINE_CHARS
            assert cue.words[-1].end_s - cue.words[0].start_s <= MAX_SHOWN_S


@settings(max_examples=40, deadline=None)
@given(speech())
def test_both_subtitle_formats_read_back_as_the_layout(segments: list[Caption]) -> None:
    transcript = Transcript(tuple(segments), 1.0, "m", "1")
    cues = lay_out(segments)
    for name in ("srt", "vtt"):
        events = pysubs2.SSAFile.from_string(render(transcript, name), format_=name).events
        assert [event.plaintext for event in events] == [cue.text for cue in cues]
        assert [(e.start, e.end) for e in events] == [(round(c.start_s * 1000), round(c.end_s * 1000)) for c in cues]


@given(st.lists(SPOKEN, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_balance_keeps_the_words_and_evens_the_lines(words: list[str]) -> None:
    lines = balance(words)
    assert " ".join(lines) == " ".join(words)
    longest = max(map(len, lines))
    for i in range(1, len(words)):
        assert len(lines) == 1 or longest <= max(len(" ".join(words[:i])), len(" ".join(words[i:])))


def test_a_short_word_stays_up_into_the_silence_but_not_into_the_next_cue() -> None:
    alone, late, soon = (segment([Word("yes", t, t + 0.2, 1.0)]) for t in (1.0, 5.0, 5.5))
    first, second, third = lay_out([alone, late, soon])
    assert first.end_s == 1.0 + MIN_SHOWN_S
    assert second.end_s == 5.5
    assert third.end_s == 5.5 + MIN_SHOWN_S


def test_long_speech_is_cut_where_the_speaker_paused() -> None:
    times_s = [0.4 * i + (0.6 if i >= 8 else 0.0) for i in range(16)]
    words = [Word("words", t, t + 0.35, 1.0) for t in times_s]
    assert [len(cue.words) for cue in lay_out([segment(words)])] == [8, 8]
