"""What counts as the same text: the normalisation of references and hypotheses before they are compared."""

from __future__ import annotations

import unicodedata
from itertools import dropwhile
from typing import Literal

from avsr.decode.tokenizer import NO_INVISIBLE

TextNorm = Literal["basic", "none"]

RULES: dict[TextNorm, str] = {
    "basic": (
        "basic: Unicode NFKC; case folded; apostrophes inside words kept; other apostrophes, full stops and invisible "
        "characters (soft hyphens, joiners) removed; anything else that is no letter, mark or digit replaced by a "
        "space; whitespace collapsed. Numbers and abbreviations are not spelled out."
    ),
    "none": "none: compared as written, case and punctuation included; whitespace collapsed.",
}
"""What each normalisation does, as the report states it."""

APOSTROPHES = "'\u2018\u2019\u02bc\uff07"


def normalise(text: str, norm: TextNorm) -> str:
    """Return ``text`` with single spaces between its words, after the rule of ``norm``. Idempotent."""
    if norm == "basic":
        text = unicodedata.normalize("NFKC", text).translate(NO_INVISIBLE).casefold()
        text = unicodedata.normalize("NFKC", text)
        # Once more: a removed character may have separated an accent from its letter.
        text = unicodedata.normalize("NFKC", "".join(_kept(text, index) for index in range(len(text))))
        # Combining marks without a letter, such as variation selectors of emoji, are dropped.
        text = " ".join("".join(dropwhile(_is_mark, word)) for word in text.split())
    return " ".join(text.split())


def _kept(text: str, index: int) -> str:
    char = text[index]
    if _is_of_a_word(char):
        return char
    if char in APOSTROPHES:
        is_inside = 0 < index < len(text) - 1 and _is_of_a_word(text[index - 1]) and _is_of_a_word(text[index + 1])
        return "'" if is_inside else ""
    return "" if char == "." else " "


def _is_of_a_word(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN"


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] == "M"
