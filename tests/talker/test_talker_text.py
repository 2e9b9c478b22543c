"""What the talker can be asked to say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.errors import TextError
from avsr.talker import grid_sentence, parse_script
from avsr.talker.text import COLOURS, COMMANDS, DIGITS, LETTERS, MAX_CHARS

WORD = st.from_regex(r"[a-z]+('[a-z]+)?", fullmatch=True)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(WORD, st.sampled_from(["", ",", ".", "?!", " ; "])), min_size=1, max_size=20))
def test_words_come_back_as_they_were_given(pairs: list[tuple[str, str]]) -> None:
    text = " ".join(word + mark for word, mark in pairs)
    script = parse_script(text.upper())
    assert script.words == tuple(word for word, _ in pairs)
    assert len(script.spoken) == len(script.words)
    assert len(" ".join(script.spoken).split()) == len(script.words)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_clearly(text: str) -> None:
    try:
        script = parse_script(text)
    except TextError as error:
        assert "speak" in str(error)
    else:
        assert parse_script(script.text).words == script.words


@pytest.mark.parametrize(
    ("text", "is_letter"),
    [("bin blue by a nine now", True), ("a b c", True), ("letter a", True), ("a, b", True), ("a cat sat", False)],
)
def test_a_is_a_letter_only_where_one_is_meant(text: str, is_letter: bool) -> None:
    script = parse_script(text)
    assert (script.spoken[script.words.index("a")].rstrip(",") == "eigh") == is_letter


def test_z_is_named_as_the_grid_corpus_names_it() -> None:
    script = parse_script("place red by z, four now")
    assert script.words[3] == "z"
    assert script.spoken[3] == "zed,"


@pytest.mark.parametrize(
    ("text", "hint"),
    [("", "no words"), (" ,.! ", "no words"), ("bin 2", "as words"), ("café", "'é'"), ("a" * (MAX_CHARS + 1), "split")],
)
def test_what_cannot_be_said_is_refused_with_the_reason(text: str, hint: str) -> None:
    with pytest.raises(TextError, match=hint):
        parse_script(text)


def test_grid_sentences_follow_the_grammar() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        command, colour, _, letter, digit, _ = grid_sentence(rng).split()
        assert command in COMMANDS and colour in COLOURS and letter in LETTERS and digit in DIGITS
