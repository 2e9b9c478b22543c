"""Text normalisation: what the report says it does, and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsr.evaluate.text import RULES, TextNorm, normalise


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("Bin BLUE, at f.", "bin blue at f"),
        ("Don\u2019t stop 'now'", "don't stop now"),
        ("the U.S. army", "the us army"),
        ("twenty-two\u2014and more", "twenty two and more"),
        ("Stra\u00dfe \ufb01n", "strasse fin"),
        ("nai\u0308ve", "naïve"),
        ("... ?!", ""),
        ("c.\u0327a", "\u00e7a"),
        ("2 o'clock", "2 o'clock"),
        ("नमस्ते!", "नमस्ते"),
        ("I \u2764\ufe0f you", "i you"),
        ("co\u00adoperate", "cooperate"),
    ],
)
def test_case_and_punctuation_do_not_count(written: str, compared: str) -> None:
    assert normalise(written, "basic") == compared


def test_none_changes_nothing_but_spaces() -> None:
    assert normalise("  Bin,\tBLUE ", "none") == "Bin, BLUE"


@pytest.mark.parametrize("norm", RULES)
@given(text=st.text(alphabet=st.one_of(st.characters(), st.sampled_from("e'. \u0301\u200d\u00ad"))))
def test_normal_text_is_left_as_it_is(norm: TextNorm, text: str) -> None:
    once = normalise(text, norm)
    assert normalise(once, norm) == once
    assert once == " ".join(once.split())
