"""Word error rate: over all sentences together, and never of nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsr.evaluate.wer import NO_ERRORS, Errors, character_errors, word_errors

words = st.lists(st.sampled_from(["bin", "blue", "at", "f"]), max_size=5).map(" ".join)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate"),
    [
        ("bin blue at f", "bin blue at f", 0.0),
        ("bin blue at f", "bin red at f", 0.25),  # substituted
        ("bin blue at f", "bin at f", 0.25),  # deleted
        ("bin blue at f", "bin blue light at f", 0.25),  # inserted
        ("bin blue at f", "", 1.0),
        ("bin", "lay white in z", 4.0),
    ],
)
def test_each_kind_of_mistake_counts_once(reference: str, hypothesis: str, rate: float) -> None:
    assert word_errors(reference, hypothesis).rate == pytest.approx(rate)


def test_long_sentences_weigh_more() -> None:
    both = word_errors("bin", "set") + word_errors("set green with p", "set green with p")
    assert both.rate == pytest.approx(0.2)


def test_words_in_a_silence_are_insertions() -> None:
    both = word_errors("", "bin") + word_errors("bin blue", "bin blue")
    assert both.rate == pytest.approx(0.5)


@given(words.filter(bool))
def test_what_was_said_has_no_mistakes(said: str) -> None:
    assert word_errors(said, said).rate == 0.0
    assert word_errors(said, "").rate == 1.0


@pytest.mark.parametrize("errors", [NO_ERRORS, word_errors(" ", "bin")])
def test_without_reference_words_there_is_no_rate(errors: Errors) -> None:
    with pytest.raises(ZeroDivisionError):
        _ = errors.rate


@given(st.lists(st.tuples(words, words), min_size=1))
def test_counts_of_a_corpus_are_the_sums_of_its_sentences(pairs: list[tuple[str, str]]) -> None:
    total = sum((word_errors(*pair) for pair in pairs), NO_ERRORS)
    said, heard = (sum(len(text.split()) for text in side) for side in zip(*pairs, strict=True))
    assert total.num_reference == said
    assert heard == said - total.deletions + total.insertions


def test_characters_count_the_space_between_words() -> None:
    assert character_errors("bin blue", "bin  blue ") == Errors(0, 0, 0, 8)
    assert character_errors("bin blue", "binblue") == Errors(0, 1, 0, 8)
    assert character_errors("", "no") == Errors(0, 0, 2, 0)
