"""What a talker is asked to say: words, pauses, and how single letters are spelt for a synthesiser."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from avsr.errors import TextError

COMMANDS = ("bin", "lay", "place", "set")
COLOURS = ("blue", "green", "red", "white")
PREPOSITIONS = ("at", "by", "in", "with")
LETTERS = tuple("abcdefghijklmnopqrstuvxyz")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ADVERBS = ("again", "now", "please", "soon")

MAX_CHARS = 2_000
"""Longest text spoken at once; about two minutes."""

_TOKEN = re.compile(r"(?P<word>'?[a-z][a-z']*)|(?P<pause>[,.;:!?]+)|(?P<space>[\s-]+)|(?P<other>\d+|.)", re.DOTALL)
_LETTER_NAMES = {"a": "eigh", "z": "zed"}
"""How letters are spelt so that all voices say their names: not the article, and not "zee", which GRID never says."""


@dataclass(frozen=True, slots=True)
class Script:
    """A text to speak: ``words`` as a transcript shows them, ``spoken`` as the synthesiser reads them.

    ``spoken`` has one entry a word, with the punctuation that follows it, so its i-th token is the i-th word.
    """

    words: tuple[str, ...]
    spoken: tuple[str, ...]

    @property
    def text(self) -> str:
        """The transcript: lower-case words joined by single spaces."""
        return " ".join(self.words)


def parse_script(text: str) -> Script:
    """Read ``text``: English letters, apostrophes, hyphens, and ``, . ; : ! ?``, which pause; case does not matter.

    "a" is the letter where a digit word or another single letter follows, or nothing ("by a nine"), else the article.
    "z" is "zed".

    Raises:
        TextError: no words, too long, or a character that is none of the above.
    """
    if len(text) > MAX_CHARS:
        raise TextError(f"text of {len(text)} characters; at most {MAX_CHARS} are spoken at once, so split it")
    words: list[str] = []
    pauses: list[str] = []
    for match in _TOKEN.finditer(text.lower().replace("’", "'")):
        token = match[0]
        if match.lastgroup == "word":
            words.append(token)
            pauses.append("")
        elif match.lastgroup == "pause" and pauses:
            # A run of marks is one pause, and marks before the first word are none.
            pauses[-1] = pauses[-1] or token[0]
        elif match.lastgroup == "other":
            hint = "; write numbers as words" if token.isdigit() else ""
            raise TextError(f"cannot speak {token!r} in {text!r}: use English letters and , . ; : ! ?{hint}")
    if not words:
        raise TextError(f"no words to speak in {text!r}")
    spoken = tuple(
        (word if word == "a" and not _is_a_letter_there(words, pauses, index) else _LETTER_NAMES.get(word, word))
        + pauses[index]
        for index, word in enumerate(words)
    )
    return Script(tuple(words), spoken)


def grid_sentence(rng: np.random.Generator) -> str:
    """A random sentence of the GRID grammar (Cooke, Barker, Cunningham, Shao 2006)."""
    slots = (COMMANDS, COLOURS, PREPOSITIONS, LETTERS, DIGITS, ADVERBS)
    return " ".join(slot[int(rng.integers(len(slot)))] for slot in slots)


def _is_a_letter_there(words: list[str], pauses: list[str], index: int) -> bool:
    """Tell whether an "a" in this place is a letter."""
    if pauses[index] or index + 1 == len(words):
        return True
    return words[index + 1] in DIGITS or len(words[index + 1]) == 1
