from __future__ import annotations

import csv
from pathlib import Path

import pytest
from decode_names import GRID_WORDS
from hypothesis import given, settings
from hypothesis import strategies as st

from avsr.decode import Tokenizer, normalise_text, train_tokenizer
from avsr.errors import InputError, TextError


def test_blank_is_id_0_and_never_encoded(letters: Tokenizer) -> None:
    assert letters.blank_id == 0
    assert letters.pieces[0] == "<blank>"
    assert 0 not in letters.encode("the quick brown fox")


@given(st.text(alphabet="abcxyz' ,.!?ABC’\n", max_size=40))
@settings(deadline=None, max_examples=60)
def test_decoding_what_was_encoded_gives_the_normalised_text(letters: Tokenizer, text: str) -> None:
    assert letters.decode(letters.encode(text)) == normalise_text(text)


def test_every_grid_word_is_one_piece_and_other_words_are_spelled(grid: Tokenizer) -> None:
    assert [len(grid.encode(word)) for word in GRID_WORDS] == [1] * len(GRID_WORDS)
    assert grid.decode(grid.encode("it's a quay")) == "it's a quay"


def test_128_pieces_make_every_word_of_the_corpus_whole(shared_data: Path) -> None:
    with (shared_data / "grid.tsv").open() as file:
        lines = [row["text"] for row in csv.DictReader(file, delimiter="\t")]
    tokenizer = Tokenizer(train_tokenizer(lines, 128))
    words = {word for line in lines for word in line.split()}
    assert len(words) == 51
    assert [word for word in words if len(tokenizer.encode(word)) != 1] == []


def test_a_word_begins_at_its_mark(grid: Tokenizer) -> None:
    assert [grid.is_word_start(token) for token in grid.encode("bin blue")] == [True, True]
    assert not grid.is_word_start(grid.blank_id)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("Hello, World!", "hello world"),
        ("don’t 'quote' rock 'n' roll", "don't quote rock n roll"),
        ("a_b-c", "a b c"),
        ("  two\tthree\n", "two three"),
        ("I have 2.", "i have 2"),
        ("cafe\u0301", "café"),
        ("नमस्ते, दुनिया!", "नमस्ते दुनिया"),
        ("สวัสดีครับ", "สวัสดีครับ"),
        ("I \u2764\ufe0f you", "i you"),
        ("co\u00adoperate \u0645\u06cc\u200c\u0631\u0648\u0645", "cooperate \u0645\u06cc\u0631\u0648\u0645"),
        ("...", ""),
    ],
)
def test_one_way_to_write_a_text(text: str, normalised: str) -> None:
    assert normalise_text(text) == normalised


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("İe'_ \u0301\u0324\u093e\ufe0f\u200d\u00ad"))))
def test_a_text_that_is_written_so_stays_as_it_is(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once


def test_text_that_cannot_be_spelled_names_the_letters(letters: Tokenizer) -> None:
    with pytest.raises(TextError, match="no piece for 2 é"):
        letters.encode("café 2")


def test_the_same_text_gives_the_same_bytes() -> None:
    assert train_tokenizer(["bin blue"] * 3, 36) == train_tokenizer(["bin blue"] * 3, 36)


def test_what_is_no_model_is_refused() -> None:
    for model in (b"", b"not a model"):
        with pytest.raises(InputError):
            Tokenizer(model)


def test_sizes_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(InputError, match="5 pieces"):
        train_tokenizer(["bin blue"], 5)
    with pytest.raises(InputError, match="no text"):
        train_tokenizer(["...", ""], 40)
