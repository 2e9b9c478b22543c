"""A file that grew final by final is the file that is written at once, and knows nothing of its beginning."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.captions.files import render
from avsr.captions.growing import Growth, open_growth
from avsr.types import Caption, Transcript, Word

ABOUT = Transcript((), 0.0, "tiny", "0", "av", source="live")
words = st.lists(
    st.tuples(st.sampled_from(["a", "b & c", "bin", "überaus", "<z>", "x" * 30]), st.floats(0.0, 1.5)),
    min_size=1,
    max_size=12,
)


def segments_of(drawn: list[list[tuple[str, float]]]) -> list[Caption]:
    """Finals whose words begin the given pauses after each other; some at the very same time."""
    time_s, segments = 3599.0, []
    for index, segment in enumerate(drawn):
        found = []
        for text, pause_s in segment:
            time_s += pause_s
            found.append(Word(text, time_s, time_s + 0.1, 0.5))
        segments.append(Caption(index, 0, True, tuple(found), 0, found[0].start_s, found[-1].end_s, 0.5, 1.0))
    return segments


def grown(growth: Growth, segments: list[Caption]) -> str:
    return "".join([growth.head, *map(growth.add, segments), growth.tail()])


@settings(max_examples=60, deadline=None)
@given(st.lists(words, max_size=5), st.sampled_from(["txt", "srt", "vtt", "json"]))
def test_growing_makes_the_file_that_is_written_at_once(drawn: list[list[tuple[str, float]]], name: str) -> None:
    segments = segments_of(drawn)
    duration_s = segments[-1].end_s if segments else 0.0
    whole = render(Transcript(tuple(segments), duration_s, "tiny", "0", "av", source="live"), name)
    text = grown(open_growth(ABOUT, name), segments)
    if name == "json":
        expected = json.loads(whole)
        del expected["text"]
        assert json.loads(text) == expected
    else:
        assert text == whole


@pytest.mark.parametrize("name", ["txt", "srt", "vtt", "json"])
def test_what_is_kept_does_not_grow(name: str) -> None:
    growth, sizes = open_growth(ABOUT, name), []
    for segment in segments_of([[("bin", 0.3), ("blue", 0.2)]] * 300):
        growth.add(segment)
        sizes.append(len(pickle.dumps(growth)))
    assert sizes[-1] < sizes[2] + 20
